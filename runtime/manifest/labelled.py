"""What labelled images promise of the answers: the error of accepted ones, and label sets that have the true one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class ErrorBound:
    """The bound on the error of accepted images.

    Attributes:
        rate: r, the largest share of accepted in-distribution images that are classified wrong.
        confidence: 1 - delta, over draws of the images that tested it.
        score: the key of the score that is to reach the selection's threshold, one of the manifest's `scores`.
        n: number of labelled images that tested it; none of them set any other threshold.
    """

    rate: float
    confidence: float
    score: str
    n: int

    def __post_init__(self) -> None:
        if not (0 < self.rate < 1 and 0 < self.confidence < 1):
            raise ValueError(f"rate and confidence must be in (0, 1), found {self.rate} and {self.confidence}")


@dataclass(frozen=True)
class Selection:
    """The second threshold of an operating point, and what the images that tested it said.

    Attributes:
        threshold: float32-representable, of the score of :class:`ErrorBound`; an accepted image reaches it.
        accepted: how many of the test images reach it and pass the gate too.
        errors: how many of those are classified wrong.
        upper: the exact upper bound on their error at the confidence asked for (Clopper & Pearson 1934); at most the
            rate that is promised.
    """

    threshold: float
    accepted: int
    errors: int
    upper: float

    def __post_init__(self) -> None:
        if not abs(self.threshold) <= _LARGEST:
            raise ValueError(f"threshold must be a finite float32, found {self.threshold}")
        if not 0 <= self.errors <= self.accepted:
            raise ValueError(f"errors must be from 0 to {self.accepted}, found {self.errors}")
        if not 0 <= self.upper <= 1:
            raise ValueError(f"upper must be in [0, 1], found {self.upper}")


@dataclass(frozen=True)
class LabelSet:
    """The label sets of images that the gate takes for known: classes of at least a probability, and the likeliest.

    Attributes:
        coverage: the least probability that the set of such an in-distribution image has the true label.
        threshold: that probability, of the reported ones.
        n: number of such labelled images that set it; none of them set the gate.
        size: mean number of labels of their sets.
    """

    coverage: float
    threshold: float
    n: int
    size: float

    def __post_init__(self) -> None:
        if not (0 < self.coverage < 1 and 0 <= self.threshold <= 1):
            raise ValueError(
                f"coverage must be in (0, 1), threshold in [0, 1], found {self.coverage} and {self.threshold}"
            )
        if not 1 <= self.size < math.inf:
            raise ValueError(f"size must be at least 1, found {self.size}")
