"""Images of one size, read like a uint8 array [N, H, W, 3] whether they are in memory or decoded as they are used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from runtime.manifest import InputSpec
from train.data.files import File, decode
from train.data.parallel import each, prefetch
from train.exceptions import DataError


class Images(Protocol):
    """What a numpy array of images and a :class:`LazyImages` have in common."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, 3)."""

    def __len__(self) -> int: ...

    def __getitem__(self, chosen: Any, /) -> Any:
        """A slice, or an integer array of positions -> uint8 [n, H, W, 3], in that order."""


class LazyImages:
    """Image files that are decoded, by several threads, whenever they are asked for.

    Args:
        source: what errors call the set.
        names: of the images, for errors.
        files: where the bytes of each are.
        spec: the size to bring them to.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, source: str, names: Sequence[str], files: Sequence[File], spec: InputSpec) -> None:
        self._source, self._names, self._files, self._spec = source, names, files, spec
        self._positions = np.arange(len(files))

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, H, W, 3)."""
        return len(self._files), self._spec.height, self._spec.width, 3

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, chosen: slice | npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
        """The images of a slice or of an integer array, uint8 [n, H, W, 3], in that order.

        Raises:
            DataError: an image that does not decode, by its name.
        """
        positions = self._positions[chosen]
        images = np.empty((len(positions), *self.shape[1:]), dtype=np.uint8)

        def work(i: int) -> None:
            images[i] = decode(self._files[positions[i]], self._spec)

        for failure in each(work, len(positions)):
            name = self._names[positions[failure.position]]
            raise DataError(f"{self._source}: {name}: {failure.error}") from failure.error
        return images


class JoinedImages:
    """Several sets of images one after another, without a copy of them."""

    dtype = np.dtype(np.uint8)

    def __init__(self, parts: Sequence[Images]) -> None:
        self._parts = parts
        self._ends = np.cumsum([len(part) for part in parts])
        self._positions = np.arange(self._ends[-1])

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, 3)."""
        return len(self), *self._parts[0].shape[1:]

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, chosen: slice | npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
        """The images of a slice or of an integer array, uint8 [n, H, W, 3], in that order."""
        positions = self._positions[chosen]
        images = np.empty((len(positions), *self.shape[1:]), dtype=np.uint8)
        which = np.searchsorted(self._ends, positions, side="right")
        for i in np.unique(which):
            start = self._ends[i] - len(self._parts[i])
            images[which == i] = self._parts[i][positions[which == i] - start]
        return images


class SelectedImages:
    """The images of a set at some positions, without a copy of them."""

    dtype = np.dtype(np.uint8)

    def __init__(self, images: Images, positions: npt.NDArray[np.int64]) -> None:
        self._images, self._positions = images, positions

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, 3)."""
        return len(self), *self._images.shape[1:]

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, chosen: slice | npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
        """The images of a slice or of an integer array, uint8 [n, H, W, 3], in that order."""
        images: npt.NDArray[np.uint8] = self._images[self._positions[chosen]]
        return images


def join(parts: Sequence[Images]) -> Images:
    """One set of images out of several: an array if all of them are arrays."""
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    return np.concatenate(arrays) if len(arrays) == len(parts) else JoinedImages(parts)


def batches(images: Images, size: int) -> Iterator[npt.NDArray[np.uint8]]:
    """All images in order, uint8 [at most `size`, H, W, 3] at a time, the next ones decoded while these are used."""
    return prefetch(images[start : start + size] for start in range(0, len(images), size))
