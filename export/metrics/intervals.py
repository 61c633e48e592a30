"""95 % confidence intervals of figures measured on a finite sample, in closed form: no resampling, so no seed.

What a stratified bootstrap would estimate by drawing is computed instead, and covers better where scores separate
almost perfectly; `python -m benchmarks.bootstrap_coverage` compares the two.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import betainc, expit, logit
from scipy.stats import beta, binom, t

CONFIDENCE = 0.95
_TAIL = (1 - CONFIDENCE) / 2
_NEGLIGIBLE = 1e-9  # of the order statistics' probability: their ranks beyond it are left out

Interval = tuple[float, float]
Values = npt.NDArray[np.floating]


def share(hits: int, total: int) -> Interval:
    """Clopper and Pearson's exact interval of a proportion (1934)."""
    low = 0.0 if hits == 0 else beta.ppf(_TAIL, hits, total - hits + 1)
    high = 1.0 if hits == total else beta.ppf(1 - _TAIL, hits + 1, total - hits)
    return float(low), float(high)


def from_influence(value: float, *influences: Values) -> Interval:
    """Interval of a figure in (0, 1) from how much each observation moves it.

    The variance is that of the infinitesimal jackknife, the limit of the bootstrap's for infinitely many resamples (Efron
    1982), the sum over independent samples of var(influence) / n; for AUROC it is DeLong's (1988). The interval is
    symmetric on the logit scale, which keeps it inside (0, 1). Where few observations carry the variance, as when ID and
    OOD hardly overlap, its estimate is uncertain itself: the quantile is Student's, with the degrees of freedom of
    Satterthwaite, those of a sample variance being 2 n / (kurtosis - (n - 3) / (n - 1)) (O'Neill 2014).

    Args:
        value: the figure.
        influences: for each independent sample its influence values (n,), n >= 1; their mean is 0.

    Returns:
        [0, 1] where a sample has one observation; the value itself where nothing varies.
    """
    if min(map(len, influences)) < 2:
        return 0.0, 1.0
    variance = spread = 0.0
    for influence in influences:
        n = len(influence)
        squared = (influence - influence.mean()) ** 2
        if squared.mean() > np.finfo(np.float64).eps ** 2:
            part = squared.sum() / (n - 1) / n
            variance += part
            spread += part**2 * (np.square(squared).mean() / squared.mean() ** 2 - (n - 3) / (n - 1)) / n
    if not variance or not 0 < value < 1:
        return value, value
    quantile = t.ppf(1 - _TAIL, max(1.0, 2 * variance**2 / spread))
    margin = quantile * math.sqrt(variance) / (value * (1 - value))
    low, high = expit(logit(value) + np.array([-margin, margin]))
    return float(low), float(high)


def separation(n: int) -> float:
    """The largest probability of a wrongly ordered pair that n independent pairs, all in order, leave open.

    Were it larger, all would be in order with probability below 2.5 %: (1 - p)^n = 0.025.
    """
    return float(-np.expm1(math.log(_TAIL) / n))


def lowest_average_precision(n: int, m: int, error: float) -> float:
    """The lowest AP of n positives to m negatives with an AUROC of 1 - error: a share `error` of negatives above all.

    Then p = u / (u + r) with r = error m / n, and u uniform: 1 - r log(1 + 1 / r).
    """
    r = error * m / n
    return 1 - r * math.log1p(1 / r)


def false_positive_rate(positives: Values, negatives: Values, tpr: float, value: float) -> Interval:
    """Interval of the false-positive rate at the threshold that keeps `tpr` of all positives.

    Two things are uncertain. The number of sampled positives below the true threshold is Binomial(n, 1 - tpr), so the
    threshold is the sample's (j + 1)-th smallest with that probability of j: the order statistics' interval of a quantile.
    Above each of them lie c of m negatives, a proportion whose uncertainty is Jeffreys' Beta(c + 1/2, m - c + 1/2). The
    interval has the quantiles of this mixture. Percentile bootstrap is the same with c resampled as Binomial(m, c / m) / m,
    which has no spread at c = 0: there it claims certainty.

    Args:
        positives, negatives: scores (n,) and (m,), higher means more positive.
        tpr: in (0, 1).
        value: the rate measured, which the interval holds.
    """
    n, m = len(positives), len(negatives)
    first, last = binom.ppf([_NEGLIGIBLE, 1 - _NEGLIGIBLE], n, 1 - tpr)
    below = np.arange(first, min(last, n - 1) + 1)
    weights = binom.pmf(below, n, 1 - tpr)
    thresholds = np.sort(positives)[below.astype(np.int64)]
    above = m - np.searchsorted(np.sort(negatives), thresholds, side="left")

    def excess(rate: float, level: float) -> float:
        return float(weights @ betainc(above + 0.5, m - above + 0.5, rate) / weights.sum() - level)

    low, high = (brentq(excess, 0.0, 1.0, args=(level,)) for level in (_TAIL, 1 - _TAIL))
    return min(float(low), value), max(float(high), value)
