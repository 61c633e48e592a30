"""Scores that are made of others."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

MergeMethod = Literal["min", "harmonic"]

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class PValueCurve:
    """A score's p-value as a continuous, increasing function of the score (:func:`export.detectors.merged.p_values`).

    Attributes:
        knots: scores, strictly ascending.
        heights: the p-values at the knots, ascending, in (0, 1].
        tail: the distance below the first knot at which the p-value is half of the first height.
    """

    knots: tuple[float, ...]
    heights: tuple[float, ...]
    tail: float

    def __post_init__(self) -> None:
        ascending = all(a < b for values in (self.knots, self.heights) for a, b in pairwise(values))
        if not self.knots or len(self.knots) != len(self.heights) or not ascending:
            raise ValueError("knots and heights must ascend, and be as many")
        if not all(map(math.isfinite, self.knots)) or not 0 < self.heights[0] <= self.heights[-1] <= 1:
            raise ValueError("knots must be finite, and heights in (0, 1]")
        if not 0 < self.tail <= _LARGEST:
            raise ValueError(f"tail must be positive, found {self.tail}")


@dataclass(frozen=True)
class Merged:
    """A score made of others: their p-values, merged (:func:`export.detectors.merged.merge`).

    Attributes:
        method: ``min`` or ``harmonic``.
        n: number of in-distribution images behind the curves; none of them set the threshold.
        parts: the p-value curve of each score that is merged.
    """

    method: MergeMethod
    n: int
    parts: dict[str, PValueCurve]
