"""From a source to its images: the part wanted, decoded or ready to be, without those that can't be read."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
from PIL import Image

from runtime.exceptions import EmptyImage, NotAnImage
from runtime.manifest import InputSpec
from runtime.preprocess import FORMATS, fit, preprocess
from runtime.preprocess.formats import kind
from train.data import npz, webdataset
from train.data.files import File, in_folder, in_tar, is_image
from train.data.image_set import ImageSet
from train.data.images import LazyImages
from train.data.index import LABELS_CSV, Index, by_folder, by_labels_csv
from train.data.parallel import Failure, each
from train.data.source import Source, parse, part
from train.exceptions import DataError

# What the decoded images of one set, or the files of a compressed tar, may take. CIFAR-10's training set takes 0.15 GB
# and Tiny-ImageNet's 1.2; training images and outliers of this size together still leave room on a 16 GB machine.
MEMORY = 2 * 10**9

_MAX_SKIPPED = 0.1  # of the images; with more, the set is not what it is taken for
_HEAD = 256  # bytes by which the formats are told apart
_NAMED = 3  # images named in a message


def load(source: str, spec: InputSpec, *, strict: bool = False, in_memory: bool | None = None) -> ImageSet:
    """Read a source at the size of `spec`, with a progress bar on a terminal.

    Images that can't be read are left out and named in the set's `skipped`. Of a set that is not decoded at once only
    the files' first bytes are looked at; an image damaged further on is an error when it is used.

    Args:
        source: what to read (:mod:`train.data` has the forms).
        spec: the size wanted and how to get there.
        strict: whether one image that can't be read is an error.
        in_memory: whether to decode all images at once; by default if they take at most :data:`MEMORY` bytes. An
            .npz file is always in memory.

    Raises:
        DataError: no such source, no images in it, labels that can't be understood, or images that can't be read: one
            of them if `strict`, more than a tenth of them otherwise.
    """
    wanted = parse(source)
    if wanted.path.suffix == ".npz":
        return _from_arrays(source, wanted, spec)
    index = _discover(wanted.path, MEMORY)
    index = index.select(_part(source, wanted, index))
    if in_memory is None:
        in_memory = len(index) * spec.height * spec.width * 3 <= MEMORY
    read = _decoded if in_memory else _lazy
    return read(wanted.path, index, spec, strict)


def read(source: str, spec: InputSpec, *, strict: bool = False) -> ImageSet:
    """What commands use: :func:`load`, and a line on standard error about images that were left out."""
    data = load(source, spec, strict=strict)
    if data.skipped:
        print(
            f"warning: {source}: {len(data.skipped)} of {len(data) + len(data.skipped)} images can't be read and are "
            f"left out: {_some(data.skipped)}",
            file=sys.stderr,
        )
    return data


def add_strict_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--strict``, the option of every command that reads images."""
    parser.add_argument(
        "--strict",
        action="store_true",
        help="one image that can't be read is an error (default: it is left out and named; more than a tenth are an error)",
    )


def _discover(path: Path, memory: int) -> Index:
    """List the images at a path and label them in the way that its files call for.

    Args:
        path: a directory, a tar, or a pattern of shards.
        memory: how many bytes of a compressed tar may be held.

    Raises:
        DataError: nothing there, no images, or labels that can't be understood.
    """
    shards = webdataset.shards(path)
    if path.is_dir():
        files = in_folder(path)
        shards = [] if any(map(is_image, files)) else shards
    elif path.is_file():
        files = in_tar(path, memory)
        if webdataset.has_labels(files):
            return webdataset.index(path, files)
    elif not shards:
        raise DataError(f"{path}: no such directory, tar or .npz file")
    if shards:
        return webdataset.index(path, _in_shards(shards, memory))
    if LABELS_CSV in files:
        return by_labels_csv(path, files)
    if astray := [name for name in files if PurePosixPath(name).name == LABELS_CSV]:
        raise DataError(f"{path}: {astray[0]} must lie at the root, and name the images from there")
    return by_folder(path, files)


def _in_shards(shards: list[Path], memory: int) -> dict[str, File]:
    return {f"{shard.name}/{name}": file for shard in shards for name, file in in_tar(shard, memory).items()}


def _part(source: str, wanted: Source, whole: Index | ImageSet) -> npt.NDArray[np.intp]:
    positions = part(whole.names, whole.labels, wanted.index, wanted.count)
    if not len(positions):
        of = " of every class" if whole.labels.ndim == 1 else ""
        raise DataError(f"{source}: no images in this part; {len(whole)} are too few for {wanted.count} parts{of}")
    return positions


def _from_arrays(source: str, wanted: Source, spec: InputSpec) -> ImageSet:
    whole = npz.load(wanted.path)
    positions = _part(source, wanted, whole)
    images = whole.images[positions]
    if images.shape[1:3] != (spec.height, spec.width):
        images = np.stack([fit(Image.fromarray(image), spec) for image in images])
    names = tuple(whole.names[i] for i in positions)
    return replace(whole, images=images, labels=whole.labels[positions], names=names)


def _decoded(path: Path, index: Index, spec: InputSpec, strict: bool) -> ImageSet:
    images = np.empty((len(index), spec.height, spec.width, 3), dtype=np.uint8)

    def decode(i: int) -> None:
        images[i] = preprocess(index.files[i].read(), spec)

    failures = each(decode, len(index), title=path.name)
    readable, skipped = _without(path, index, failures, strict)
    if skipped:
        images = images[_kept(len(index), failures)]
    return ImageSet(images, readable.labels, readable.classes, tuple(readable.names), skipped)


def _lazy(path: Path, index: Index, spec: InputSpec, strict: bool) -> ImageSet:
    failures = each(lambda i: _check_head(index.files[i]), len(index), title=path.name)
    readable, skipped = _without(path, index, failures, strict)
    images = LazyImages(str(path), readable.names, readable.files, spec)
    return ImageSet(images, readable.labels, readable.classes, tuple(readable.names), skipped)


def _check_head(file: File) -> None:
    head = file.read(_HEAD)
    if not head:
        raise EmptyImage("the image is empty")
    if kind(head) in FORMATS:
        return
    raise NotAnImage(f"the bytes are not an image of an accepted format ({', '.join(FORMATS)})")


def _without(path: Path, index: Index, failures: list[Failure], strict: bool) -> tuple[Index, tuple[str, ...]]:
    """What is left without the images that failed, and their names."""
    if not failures:
        return index, ()
    first = f"{index.names[failures[0].position]}: {failures[0].error}"
    if strict:
        raise DataError(f"{path}: {first}")
    if len(failures) > _MAX_SKIPPED * len(index):
        raise DataError(f"{path}: {len(failures)} of {len(index)} images can't be read, more than a tenth; {first}")
    return index.select(_kept(len(index), failures)), tuple(index.names[failure.position] for failure in failures)


def _kept(count: int, failures: list[Failure]) -> npt.NDArray[np.intp]:
    return np.setdiff1d(np.arange(count), [failure.position for failure in failures])


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"
