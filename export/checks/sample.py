"""A few of the calibration images, to look at the classifier with before all of them are read."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from runtime.manifest import InputSpec
from train.data import ImageSet, Labels, LazyImages, Reading, load, short_name
from train.exceptions import DataError

SIZE = 200
_DEFAULT = Reading()


@dataclass(frozen=True)
class Sample:
    """Up to 200 random images of a source, always the same, to be had at any input size and by any rule of resizing.

    Attributes:
        source, reading: which, or a set that was read before, and what the user says of it.
        positions: int64 (n,), ascending, of the images in it; those that can't be read are left out.
        images: uint8 [n, H, W, 3], as the classifier to export sees them.
        labels: of its labels where the source has them, or None.
        sizes: (width, height) before they were resized, of images that are files.
    """

    source: str | ImageSet
    reading: Reading
    positions: npt.NDArray[np.int64]
    images: npt.NDArray[np.uint8]
    labels: Labels | None
    sizes: tuple[tuple[int, int], ...] = ()

    @property
    def title(self) -> str:
        """What messages call it."""
        return self.source if isinstance(self.source, str) else short_name(self.source)

    def at(self, spec: InputSpec) -> npt.NDArray[np.uint8]:
        """The same images, brought to another input; those of a set that was read before are as they are."""
        if isinstance(self.source, ImageSet):
            return self.images
        images: npt.NDArray[np.uint8] = _read(self.source, spec, self.reading).images[self.positions]
        return images


def sample(source: str | ImageSet, spec: InputSpec, labels: tuple[str, ...], reading: Reading = _DEFAULT) -> Sample:
    """Draw from a source for a classifier with these labels.

    Raises:
        DataError: a source that can't be read.
    """
    whole = _read(source, spec, reading, labels)
    title = source if isinstance(source, str) else short_name(source)
    drawn = np.sort(np.random.default_rng(0).permutation(len(whole))[:SIZE])
    read = dict(_readable(whole, drawn))
    if not read:
        raise DataError(f"{title}: {whole.names[drawn[0]]} and {len(drawn) - 1} others, and none of them can be read")
    positions = np.array(list(read), dtype=np.int64)
    sizes = whole.images.sizes(positions) if isinstance(whole.images, LazyImages) else ()
    named = _labels(whole, positions, labels, title)
    return Sample(source, reading, positions, np.stack(list(read.values())), named, tuple(sizes))


def noise(spec: InputSpec, count: int = 64) -> npt.NDArray[np.uint8]:
    """Images to look with when there are no others."""
    return np.random.default_rng(0).integers(0, 256, (count, spec.height, spec.width, 3), dtype=np.uint8)


def _read(source: str | ImageSet, spec: InputSpec, reading: Reading, labels: tuple[str, ...] | None = None) -> ImageSet:
    if isinstance(source, ImageSet):
        return source if labels is None else source.matched(labels)
    return load(source, spec, reading=dataclasses.replace(reading, strict=False), labels=labels, in_memory=False)


def _readable(whole: ImageSet, drawn: npt.NDArray[np.int64]) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    try:
        yield from zip(drawn.tolist(), whole.images[drawn], strict=True)
    except DataError:  # one of them, which reading the whole set will leave out and name
        for position in drawn.tolist():
            try:
                yield position, whole.images[np.array([position])][0]
            except DataError:
                continue


def _labels(whole: ImageSet, positions: npt.NDArray[np.int64], labels: tuple[str, ...], source: str) -> Labels | None:
    if not whole.labelled or whole.unknown_to(labels):
        return None
    return whole.with_classes(labels, source).labels[positions]
