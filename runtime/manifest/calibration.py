"""What is kept of the images that set a threshold: order statistics of their scores."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise


@dataclass(frozen=True)
class OrderStatistics:
    """Order statistics of the gate's score on the calibration images predicted as one class.

    Attributes:
        n, ranks: as in :class:`Calibration`.
        quantiles: the order statistics at `ranks`.
    """

    n: int
    ranks: tuple[int, ...]
    quantiles: tuple[float, ...]

    def __post_init__(self) -> None:
        _check_ranks(self.n, self.ranks)
        _check_quantiles("quantiles", self.ranks, self.quantiles)


@dataclass(frozen=True)
class Calibration:
    """Order statistics of every score on the calibration images.

    Attributes:
        n: number of calibration images.
        ranks: 1-based ranks of the stored order statistics, ascending, ending with n; every rank up to n where
            n is small enough, and that of every threshold.
        quantiles: for each score, the order statistics at `ranks`, ascending, as the shortest decimals that read
            back as the same float32.
        classes: the same for each predicted class with a threshold of its own, by label.
    """

    n: int
    ranks: tuple[int, ...]
    quantiles: dict[str, tuple[float, ...]]
    classes: dict[str, OrderStatistics] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_ranks(self.n, self.ranks)
        for score, values in self.quantiles.items():
            _check_quantiles(f"quantiles of {score}", self.ranks, values)


def _check_ranks(n: int, ranks: tuple[int, ...]) -> None:
    if not ranks or ranks[-1] != n or any(b <= a for a, b in pairwise((0, *ranks))):
        raise ValueError(f"ranks must ascend from at least 1 and end with n = {n}")


def _check_quantiles(name: str, ranks: tuple[int, ...], values: tuple[float, ...]) -> None:
    ascending = all(a <= b for a, b in pairwise(values))
    if len(values) != len(ranks) or not ascending or not all(map(math.isfinite, values)):
        raise ValueError(f"{name} must be {len(ranks)} finite ascending numbers")
