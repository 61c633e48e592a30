"""The sliding window: bin counts of the latest images, in a bounded number of blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_BLOCKS = 64  # how finely the window slides


@dataclass(frozen=True)
class Block:
    """Images decided on in a short time.

    Attributes:
        start, end: seconds since the epoch of its first and latest images.
        rejected: how many were rejected.
        counts: (B,) how many fell into each bin.
    """

    start: float
    end: float
    rejected: int
    counts: tuple[int, ...]


@dataclass(frozen=True)
class WindowSize:
    """How far back the window reaches: to whichever limit comes first, give or take a 64th of it.

    Attributes:
        images: at least so many images are kept while they are young enough.
        seconds: older images are dropped.
    """

    images: int = 10_000
    seconds: float = 3600.0

    def __post_init__(self) -> None:
        if self.images < 1 or not self.seconds > 0:
            raise ValueError(f"a window has at least one image and some time, found {self.images}, {self.seconds} s")


Blocks = tuple[Block, ...]


def slide(blocks: Blocks, size: WindowSize, now: float, counts: npt.NDArray[np.int64], rejected: int) -> Blocks:
    """The window after some more images: the newest block takes them, or a new one, and the oldest blocks go."""
    images = int(counts.sum())
    if images:
        newest = blocks[-1] if blocks else None
        small, young = size.images / _BLOCKS, size.seconds / _BLOCKS
        if newest and sum(newest.counts) + images <= small and now - newest.start < young:
            total = tuple(a + b for a, b in zip(newest.counts, counts.tolist(), strict=True))
            blocks = (*blocks[:-1], Block(newest.start, now, newest.rejected + rejected, total))
        else:
            blocks = (*blocks, Block(now, now, rejected, tuple(counts.tolist())))
    return young_blocks(blocks, size, now)


def young_blocks(blocks: Blocks, size: WindowSize, now: float) -> Blocks:
    """The blocks that are still in the window at the time `now`."""
    blocks = tuple(block for block in blocks if now - block.end <= size.seconds)
    images = [sum(block.counts) for block in blocks]
    surplus = sum(images) - size.images
    first = 0
    while first < len(blocks) - 1 and images[first] <= surplus:
        surplus -= images[first]
        first += 1
    return blocks[first:]


def total_counts(blocks: Sequence[Block], bins: int) -> npt.NDArray[np.int64]:
    """(B,) images of all blocks in each bin."""
    return np.asarray(np.array([block.counts for block in blocks], dtype=np.int64).reshape(-1, bins).sum(axis=0))
