"""One look at one window: how far its p-values are from uniform, and how often chance alone goes that far."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from serving.drift.reference import Reference


@dataclass(frozen=True)
class Uniformity:
    """A two-sample Kolmogorov-Smirnov test of the window against the calibration images.

    Attributes:
        statistic: the largest distance between the two distribution functions, in [0, 1].
        p_value: how often a window of calibration-like images is at least as far; for one look, not for an alarm.
    """

    statistic: float
    p_value: float


def kolmogorov_smirnov(reference: Reference, counts: npt.NDArray[np.int64]) -> Uniformity:
    """Compare a window with the calibration images.

    The calibration images are a sample too: with n of them and w in the window the distance has the law of a one-sample
    test of size n w / (n + w), so a window of any size is not blamed for the calibration set's own sampling error.
    Binning leaves out places where the distance could be larger, which makes the p-value larger, never smaller.

    Args:
        reference: the bins and what calibration says of them.
        counts: (B,) images of the window in each bin.
    """
    window = int(counts.sum())
    if window == 0:
        return Uniformity(0.0, 1.0)
    distance = float(np.abs(np.cumsum(counts) / window - np.cumsum(reference.probabilities)).max())
    return Uniformity(distance, kolmogorov_tail(distance, reference.n * window / (reference.n + window)))


def kolmogorov_tail(distance: float, size: float) -> float:
    """P(D >= distance) for a one-sample Kolmogorov-Smirnov statistic, with Stephens' (1970) correction for `size`."""
    x = (math.sqrt(size) + 0.12 + 0.11 / math.sqrt(size)) * distance
    if x < 0.3:  # the series needs more terms than the answer, which is 1 to five digits, is worth
        return 1.0
    terms = (math.exp(-2 * (k * x) ** 2) * (1 if k % 2 else -1) for k in range(1, 20))
    return min(1.0, max(0.0, 2 * sum(terms)))
