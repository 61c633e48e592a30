"""What an image set leaves in a checkpoint or a manifest, so that its images are known again: sketches of two hashes.

The exact hash is of an image's pixels. The other, its look, outlives a new encoding, a changed bit, and mirroring: a bit for
each of the 42 lowest frequencies of its luma (a discrete cosine transform; Zauner 2010), whether its coefficient is positive.
Mirroring changes the sign of every second horizontal frequency, so their bits say whether a coefficient has the sign of
the largest of these. Beside the bits, the octave of their contrast: a pattern twice as strong is another image. One without
such structure, of one colour say, has its exact hash for a look.

A sketch holds the smallest hashes of a set, up to a number (a bottom-k sketch, Cohen & Kaplan 2007).
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from runtime.manifest import DataSpec
from train.data.images import Images, batches
from train.data.index import Labels
from train.data.source import short_name
from train.exceptions import DataError

Hashes = npt.NDArray[np.uint64]
Looks = npt.NDArray[np.uint32]

SIZE = 1024  # of a sketch of exact hashes
LOOKS = 65_536  # of a sketch of looks: 150 kB in a manifest, and sets of up to so many images are known in full

_BATCH = 64
_SIDE = 8  # frequencies across and down, and the fewest pixels of a side
_LEAST = 1.0  # what a coefficient of noise by rounding does not reach; its standard deviation is 0.3
_FREQUENCIES = [(i, j) for i in range(_SIDE) for j in range(_SIDE) if 0 < i + j <= _SIDE]
_ODD = np.array([j % 2 == 1 for _, j in _FREQUENCIES])
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True)
class Fingerprints:
    """The hashes of N images.

    Attributes:
        exact: uint64 (N,), of the pixels.
        looks: uint32 (N,).
    """

    exact: Hashes
    looks: Looks

    @classmethod
    def of(cls, images: Images) -> Fingerprints:
        """Of uint8 images [N, H, W, 3], decoded a batch at a time."""
        parts = [(exact := hashes(batch), looks(batch, exact)) for batch in batches(images, _BATCH)]
        return cls(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def digest(self, labels: Labels) -> str:
        """Of the images' pixels and labels in their order, 64 hexadecimal digits (BLAKE2b)."""
        return hashlib.blake2b(self.exact.tobytes() + labels.tobytes(), digest_size=32).hexdigest()

    def describe(self, source: str, *, exact: bool = True) -> DataSpec:
        """The record of the set, for a manifest or a checkpoint.

        Args:
            source: where the images came from.
            exact: whether exact hashes are kept beside the looks, which know the same images; without, it is a third smaller.
        """
        hashed = sketch([self.exact]) if exact else self.exact[:0]
        encoded = base64.b64encode(hashed.astype("<u8").tobytes()).decode()
        return DataSpec(short_name(source), len(self.exact), encoded, _packed(smallest(self.looks)))


def hashes(images: npt.NDArray[np.uint8]) -> Hashes:
    """The first 64 bits of BLAKE2b of each image's pixels, uint64 (N,), from uint8 [N, H, W, 3]."""
    digests = (hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in images)
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def looks(images: npt.NDArray[np.uint8], exact: Hashes | None = None) -> Looks:
    """The look of each image, uint32 (N,), from uint8 [N, H, W, 3]; spread evenly, as the exact hashes are.

    Args:
        images: of any size.
        exact: their :func:`hashes`, if known.
    """
    exact = hashes(images) if exact is None else exact
    height, width = images.shape[1:3]
    if min(height, width) < _SIDE:
        return _upper(exact)
    luma = images.astype(np.float32) @ _LUMA  # (N, H, W)
    spectrum = _cosines(height) @ luma @ _cosines(width).T
    found = np.stack([spectrum[:, i, j] for i, j in _FREQUENCIES], axis=1)  # (N, 42)
    largest = np.abs(np.where(_ODD, found, 0)).argmax(axis=1)
    turned = found * np.where(_ODD, np.sign(found[np.arange(len(found)), largest])[:, None], 1)
    bits = (turned > _LEAST) @ (np.uint64(1) << np.arange(len(_FREQUENCIES), dtype=np.uint64))
    octave = np.log2(np.linalg.norm(found, axis=1) + 1).astype(np.uint64)
    structured = (np.abs(found) > _LEAST).sum(axis=1) >= len(_FREQUENCIES) // 2
    return _upper(np.where(structured, _spread(bits | octave << np.uint64(len(_FREQUENCIES))), exact))


def sketch(batches: Iterable[Hashes], size: int = SIZE) -> Hashes:
    """The `size` smallest distinct hashes, ascending."""
    smallest = np.empty(0, dtype=np.uint64)
    for batch in batches:
        smallest = np.unique(np.concatenate([smallest, batch]))[:size]
    return smallest


def smallest(found: Looks, size: int = LOOKS) -> Looks:
    """The `size` smallest distinct looks, ascending."""
    return np.unique(found)[:size]


def exact_of(spec: DataSpec) -> Hashes:
    """The exact hashes of a record, ascending."""
    return np.frombuffer(base64.b64decode(spec.sketch), dtype="<u8").astype(np.uint64)


def looks_of(spec: DataSpec) -> Looks:
    """The looks of a record, ascending; none of one that an earlier version made.

    Raises:
        DataError: damaged.
    """
    if not spec.looks:
        return np.empty(0, dtype=np.uint32)
    unpacking = zlib.decompressobj()
    try:
        planes = unpacking.decompress(base64.b64decode(spec.looks), 4 * LOOKS + 1)
        if not unpacking.eof:
            raise ValueError("truncated, or too long")
        steps = np.frombuffer(planes, dtype=np.uint8).reshape(4, -1).T.copy().view("<u4").ravel()
    except (zlib.error, ValueError) as error:
        raise DataError(f"the sketch of {spec.source} is damaged ({error})") from error
    return np.cumsum(steps, dtype=np.uint32)


def _packed(ascending: Looks) -> str:
    """Differences, byte by byte from the lowest, compressed: three bytes a look where a set fills the sketch."""
    steps = np.diff(ascending, prepend=np.uint32(0)).astype("<u4")
    return base64.b64encode(zlib.compress(steps.view(np.uint8).reshape(-1, 4).T.tobytes(), 9)).decode()


def _cosines(side: int) -> npt.NDArray[np.float32]:
    """The first rows of the orthonormal discrete cosine transform, (8, side)."""
    row, column = np.arange(_SIDE)[:, None], np.arange(side)
    return np.asarray(np.sqrt(2 / side) * np.cos(np.pi * row * (2 * column + 1) / (2 * side)), dtype=np.float32)


def _spread(bits: Hashes) -> Hashes:
    """A bijection of 64-bit numbers whose values are spread evenly (the finalizer of SplitMix64)."""
    x = bits + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))


def _upper(found: Hashes) -> Looks:
    return np.asarray(found >> np.uint64(32), dtype=np.uint32)
