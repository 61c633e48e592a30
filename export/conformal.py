"""Split conformal prediction: a threshold with a guarantee, from in-distribution scores alone.

Orientation as everywhere: a higher score is more in-distribution, and `score >= threshold` accepts.

Two guarantees. The marginal one bounds the rejection rate on average over calibration sets. The PAC one (probably
approximately correct; Vovk 2012, arXiv:1209.2673, and the tolerance region of Wilks 1941) bounds the rate of the threshold
at hand, with a confidence over draws of the calibration set: `pac` below, which is None for the marginal one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy.stats import beta

from runtime.exceptions import CalibrationError

Float = TypeVar("Float", bound=np.floating)

# Up to this many calibration images every order statistic is stored, and p-values are exact.
MAX_STORED = 4096
# Some last bits of a float32, by which engines and batches differ.
_SLACK = 1e-6
# The operating points stored beside the chosen one, where there are images enough.
ALPHAS = (0.01, 0.05, 0.1)


def rank(n: int, alpha: float, pac: float | None = None) -> int:
    """The rank of the threshold among n calibration scores.

    Marginal: k = floor(alpha (n + 1)). PAC: the largest k with P(Beta(k, n + 1 - k) <= alpha) >= pac, for with continuous
    scores the realised rejection rate is distributed so, and with ties it is lower.

    Raises:
        CalibrationError: alpha or pac outside (0, 1), or fewer images than :func:`smallest`, for which no threshold keeps
            the promise.
    """
    check_share("alpha", alpha)
    k = math.floor(_exact(alpha) * (n + 1)) if pac is None else _pac_rank(n, alpha, pac)
    if k < 1:
        promise = f"alpha = {alpha}" if pac is None else f"alpha = {alpha} with {100 * pac:g} % confidence"
        raise CalibrationError(
            f"{n} calibration images are too few for {promise}: at least {smallest(alpha, pac)} are needed; "
            "add images or raise alpha"
        )
    return k


def smallest(alpha: float, pac: float | None = None) -> int:
    """The smallest number of calibration images that alpha can be had with.

    Marginal: ceil(1 / alpha) - 1. PAC: the smallest n with 1 - (1 - alpha)^n >= pac, so that the lowest score will do.
    """
    if pac is None:
        return math.ceil(1 / _exact(alpha)) - 1
    n = max(1, math.floor(math.log1p(-pac) / math.log1p(-alpha)))
    return n if _pac_rank(n, alpha, pac) else n + 1


def threshold(scores: npt.NDArray[np.floating], alpha: float, pac: float | None = None) -> float:
    """The k-th smallest calibration score, k being its :func:`rank`.

    For images exchangeable with the calibration images, P(score < threshold) <= k / (n + 1) <= alpha, ties included.

    Args:
        scores: (n,) scores of in-distribution images that the model was not trained on.
        alpha: bound on the probability of rejecting an in-distribution image.
        pac: the confidence of a PAC threshold.

    Raises:
        CalibrationError: too few scores for alpha, or a score that is not finite.
    """
    check_finite(scores)
    k = rank(len(scores), alpha, pac)
    return float(np.partition(scores, k - 1)[k - 1])


def lowered(scores: npt.NDArray[Float]) -> npt.NDArray[Float]:
    """Calibration scores (n,) by some last bits lower, in the same order: what makes a threshold of them.

    Where many scores tie, as of saturated softmaxes or of features that are all 0, another engine or batch may compute each
    of them a last bit lower, and a threshold that is the tied score itself would then reject them all. A lower threshold
    accepts more, so that every bound on rejection holds as before.
    """
    below: npt.NDArray[Float] = (scores - _SLACK * np.abs(scores)).astype(scores.dtype)
    return below


def tied(threshold: float, quantiles: Sequence[float]) -> bool:
    """Whether several calibration scores make the threshold: then more may be accepted than an interval's upper end."""
    values = np.array(quantiles, np.float32)
    return int(((lowered(values) <= np.float32(threshold)) & (np.float32(threshold) <= values)).sum()) > 1


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
        raise CalibrationError(
            f"{bad} of {scores.size} calibration scores are not finite: the network's numbers overflow, perhaps in half "
            "precision alone"
        )


def check_share(name: str, value: float) -> None:
    """Raises CalibrationError for a number that is not between 0 and 1."""
    if not 0 < value < 1:
        raise CalibrationError(f"{name} must be between 0 and 1, found {value}")


def _pac_rank(n: int, alpha: float, pac: float) -> int:
    """The largest k <= n with P(Beta(k, n + 1 - k) <= alpha) >= pac, a probability that falls with k; 0 where none is."""
    check_share("confidence", pac)
    k = np.arange(1, n + 1)
    return int((beta.cdf(alpha, k, n + 1 - k) >= pac).sum())


def _exact(alpha: float) -> Fraction:
    """Alpha as it was written: 0.29 * 100 is 29, not 28.99.."""
    return Fraction(str(alpha))
