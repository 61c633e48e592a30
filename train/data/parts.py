"""Equal random parts of a set, the same wherever it lies and in whatever order its images come."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt

from train.data.labels import Labels


def part(names: Sequence[str], labels: Labels, index: int, count: int) -> npt.NDArray[np.intp]:
    """Positions, ascending, of the `index`-th (from 1) of `count` parts.

    Args:
        names: N image names, whose SHA-256 decides.
        labels: int64 [N]: the parts are of every class; bool [N, K]: of all images.
        index, count: which part, of how many.
    """
    if count == 1:
        return np.arange(len(names))
    shuffled = np.array(sorted(range(len(names)), key=lambda i: _lot(names[i])), dtype=np.intp)
    groups = labels[shuffled] if labels.ndim == 1 else np.zeros(len(names), dtype=np.int64)
    by_group = np.argsort(groups, kind="stable")
    groups = groups[by_group]
    rank = np.arange(len(names)) - np.searchsorted(groups, groups)
    return np.sort(shuffled[by_group][rank % count == index - 1])


def _lot(name: str) -> bytes:
    """What an image's place in the shuffled order comes from: its folder's and its own name, wherever the set lies."""
    return hashlib.sha256("/".join(PurePosixPath(name).parts[-2:]).encode(errors="surrogateescape")).digest()
