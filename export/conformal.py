"""Split conformal prediction: a threshold with a guarantee, from in-distribution scores alone.

Orientation as everywhere: a higher score is more in-distribution, and `score >= threshold` accepts.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from runtime.exceptions import CalibrationError

# Up to this many calibration images every order statistic is stored, and p-values are exact.
MAX_STORED = 4096
# The operating points stored beside the chosen one, where there are images enough.
ALPHAS = (0.01, 0.05, 0.1)


def rank(n: int, alpha: float) -> int:
    """The rank of the threshold among n calibration scores, k = floor(alpha (n + 1)).

    Raises:
        CalibrationError: alpha outside (0, 1), or n < 1/alpha - 1, for which no threshold keeps the promise.
    """
    if not 0 < alpha < 1:
        raise CalibrationError(f"alpha must be between 0 and 1, found {alpha}")
    k = math.floor(Fraction(str(alpha)) * (n + 1))  # alpha as it was written: 0.29 * 100 is 29, not 28.99..
    if k < 1:
        raise CalibrationError(
            f"{n} calibration images are too few for alpha = {alpha}: at least {smallest(alpha)} are needed; "
            "add images or raise alpha"
        )
    return k


def smallest(alpha: float) -> int:
    """The smallest number of calibration images that alpha can be had with, ceil(1 / alpha) - 1."""
    return math.ceil(1 / Fraction(str(alpha))) - 1


def threshold(scores: npt.NDArray[np.floating], alpha: float) -> float:
    """The k-th smallest calibration score, k = floor(alpha (n + 1)).

    For images exchangeable with the calibration images, P(score < threshold) <= k / (n + 1) <= alpha, ties included.

    Args:
        scores: (n,) scores of in-distribution images that the model was not trained on.
        alpha: bound on the probability of rejecting an in-distribution image.

    Raises:
        CalibrationError: too few scores for alpha, or a score that is not finite.
    """
    check_finite(scores)
    k = rank(len(scores), alpha)
    return float(np.partition(scores, k - 1)[k - 1])


def stored_ranks(n: int) -> npt.NDArray[np.int64]:
    """Which order statistics (1-based) a manifest keeps: all, or the lowest and evenly spaced ones up to n."""
    if n <= MAX_STORED:
        return np.arange(1, n + 1)
    half = MAX_STORED // 2
    spaced = np.linspace(half, n, half).round().astype(np.int64)
    return np.unique(np.concatenate([np.arange(1, half + 1), spaced]))


def check_finite(scores: npt.NDArray[np.floating]) -> None:
    """Raises CalibrationError when any score is NaN or infinite."""
    if bad := int((~np.isfinite(scores)).sum()):
        raise CalibrationError(f"{bad} of {scores.size} calibration scores are not finite; the model is unusable")
