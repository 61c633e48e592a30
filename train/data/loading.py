"""From a source to its images: the part wanted, decoded or ready to be, without those that can't be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from runtime.manifest import InputSpec
from train.data.files import check_head, decode
from train.data.image_set import ImageSet
from train.data.images import LazyImages
from train.data.index import Index
from train.data.kinds import kind_of
from train.data.labels import matching
from train.data.labels.class_names import Row, read_rows
from train.data.options import Reading
from train.data.parallel import Failure, each
from train.data.report import Passed
from train.data.source import Source, parse, part, short_name
from train.exceptions import DataError

# What the decoded images of one set, or the files of a compressed tar, may take. CIFAR-10's training set takes 0.15 GB
# and Tiny-ImageNet's 1.2; training images and outliers of this size together still leave room on a 16 GB machine.
MEMORY = 2 * 10**9

_MAX_SKIPPED = 0.1  # of the images; with more, the set is not what it is taken for
_DEFAULT = Reading()


def load(
    source: str,
    spec: InputSpec,
    *,
    reading: Reading = _DEFAULT,
    labels: Sequence[str] | None = None,
    in_memory: bool | None = None,
) -> ImageSet:
    """Read a source at the size of `spec`, with a progress bar on a terminal.

    Images that can't be read are left out and named in the set's `skipped`. Of a set that is not decoded at once only
    the files' first bytes are looked at; an image damaged further on is an error when it is used.

    Args:
        source: what to read (:mod:`train.data` has the forms).
        spec: the size wanted and how to get there.
        reading: what the user says of it.
        labels: of a model, to label the images by where its classes are among them beyond doubt.
        in_memory: whether to decode all images at once; by default if they take at most :data:`MEMORY` bytes.

    Raises:
        DataError: no such source, no images in it, labels that can't be understood, or images that can't be read: one
            of them if `reading.strict`, more than a tenth of them otherwise.
    """
    wanted = parse(source)
    index = kind_of(wanted.path).index(wanted.path, reading, MEMORY)
    index = index.select(_part(source, wanted, index))
    if labels is not None:
        index = index.matched(labels, _synonyms(reading))
    return decoded(str(wanted.path), index, spec, strict=reading.strict, in_memory=in_memory)


def read(
    source: str | ImageSet, spec: InputSpec, *, reading: Reading = _DEFAULT, labels: Sequence[str] | None = None
) -> ImageSet:
    """What commands use: :func:`load`, and a report of what was read, what was left out, and why.

    A set that was read before, as by :func:`train.data.in_memory`, is taken for its own source.

    Raises:
        DataError: as :func:`load`; or a set of another size than that of `spec`.
    """
    if isinstance(source, ImageSet):
        if source.images.shape[1:] != (spec.height, spec.width, 3):
            found, wanted = ("x".join(map(str, size)) for size in (source.images.shape[1:3], (spec.height, spec.width)))
            raise DataError(
                f"{short_name(source)}: read at {found} pixels, expected {wanted}; read them again at that size"
            )
        data = source.matched(labels) if labels is not None else source
    else:
        data = load(source, spec, reading=reading, labels=labels)
    print(data.report.text(short_name(source) if isinstance(source, ImageSet) else source, _count(data)))
    return data


def renamed(data: ImageSet, reading: Reading) -> ImageSet:
    """A set with its classes called as the file of the reading calls them, if it names one.

    Raises:
        DataError: no readable file, a class that it does not name, or two of one name.
    """
    if reading.class_names is None or not data.classes:
        return data
    title = f"--class-names {reading.class_names}"
    return replace(data, classes=matching.renamed(title, data.classes, _synonyms(reading)))


def decoded(
    title: str, index: Index, spec: InputSpec, *, strict: bool = False, in_memory: bool | None = None
) -> ImageSet:
    """The images of an index, at the size of `spec`, without those that can't be read.

    Args:
        title: what errors call the set.
        index: the images.
        spec: the size wanted and how to get there.
        strict, in_memory: as :func:`load` takes them.

    Raises:
        DataError: images that can't be read: one of them if `strict`, more than a tenth of them otherwise.
    """
    if in_memory is None:
        in_memory = len(index) * spec.height * spec.width * 3 <= MEMORY
    return (_at_once if in_memory else _lazy)(title, index, spec, strict)


def _synonyms(reading: Reading) -> list[Row]:
    file = reading.class_names
    if file is None:
        return []
    try:
        return read_rows(str(file), file.read_bytes())
    except OSError as error:
        raise DataError(f"--class-names {file}: {error.strerror}") from error


def _part(source: str, wanted: Source, whole: Index) -> npt.NDArray[np.intp]:
    positions = part(whole.names, whole.labels, wanted.index, wanted.count)
    if not len(positions):
        raise DataError(f"{source}: no images in this part; {len(whole)} are too few for {wanted.count} parts")
    return positions


def _at_once(title: str, index: Index, spec: InputSpec, strict: bool) -> ImageSet:
    images = np.empty((len(index), spec.height, spec.width, 3), dtype=np.uint8)

    def work(i: int) -> None:
        images[i] = decode(index.files[i], spec)

    failures = each(work, len(index), title=title.rpartition("/")[2])
    readable, skipped = _without(title, index, failures, strict)
    if skipped:
        images = images[_kept(len(index), failures)]
    return ImageSet(images, readable.labels, readable.classes, tuple(readable.names), skipped, readable.report)


def _lazy(title: str, index: Index, spec: InputSpec, strict: bool) -> ImageSet:
    failures = each(lambda i: check_head(index.files[i]), len(index), title=title.rpartition("/")[2])
    readable, skipped = _without(title, index, failures, strict)
    images = LazyImages(title, readable.names, readable.files, spec)
    return ImageSet(images, readable.labels, readable.classes, tuple(readable.names), skipped, readable.report)


def _without(title: str, index: Index, failures: list[Failure], strict: bool) -> tuple[Index, tuple[str, ...]]:
    """What is left without the images that failed, and their names."""
    if not failures:
        return index, ()
    first = f"{index.names[failures[0].position]}: {failures[0].error}"
    if strict:
        raise DataError(f"{title}: {first}")
    if len(failures) > _MAX_SKIPPED * len(index):
        raise DataError(f"{title}: {len(failures)} of {len(index)} images can't be read, more than a tenth; {first}")
    skipped = tuple(index.names[failure.position] for failure in failures)
    damaged = Passed("unreadable", skipped, str(failures[0].error).partition(" (")[0])
    left = index.select(_kept(len(index), failures))
    return replace(left, report=replace(left.report, passed=(*left.report.passed, damaged))), skipped


def _kept(count: int, failures: list[Failure]) -> npt.NDArray[np.intp]:
    return np.setdiff1d(np.arange(count), [failure.position for failure in failures])


def _count(data: ImageSet) -> str:
    """How many images, and of how many classes, a set has."""
    images = f"{len(data):,} {'image' if len(data) == 1 else 'images'}"
    if not data.labelled:
        return images
    if data.task == "multilabel":
        return f"{images} with {int(data.labels.any(axis=0).sum()):,} labels, {data.labels.sum() / len(data):.2f} each"
    count = len(np.unique(data.labels))
    return f"{images} in {count:,} {'class' if count == 1 else 'classes'}"
