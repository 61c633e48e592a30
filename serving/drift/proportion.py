"""The exact confidence interval of a proportion, without scipy."""

from __future__ import annotations

import math

_PRECISION = 1e-10
_TINY = 1e-300


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """The central interval of Clopper & Pearson (1934): it covers the true proportion at least so often.

    The lower end is the (1 - confidence) / 2 quantile of Beta(k, n - k + 1), the upper end the
    (1 + confidence) / 2 quantile of Beta(k + 1, n - k).

    Args:
        successes: k, from 0 to n.
        trials: n; without any the interval is (0, 1).
        confidence: in (0, 1).
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"successes must be from 0 to {trials}, found {successes}")
    tail = (1 - confidence) / 2
    k, n = successes, trials
    lower = 0.0 if k == 0 else _beta_quantile(tail, k, n - k + 1)
    upper = 1.0 if k == n else _beta_quantile(1 - tail, k + 1, n - k)
    return lower, upper


def _beta_quantile(probability: float, a: float, b: float) -> float:
    """Where the distribution function of Beta(a, b) reaches `probability`, by bisection."""
    low, high = 0.0, 1.0
    while high - low > _PRECISION:
        middle = (low + high) / 2
        if beta_cdf(middle, a, b) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def beta_cdf(x: float, a: float, b: float) -> float:
    """The distribution function of Beta(a, b), the regularised incomplete beta function I_x(a, b).

    The continued fraction of DLMF 8.17.22, evaluated by Lentz's method on the side where it converges fast.
    """
    if not 0 < x < 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - beta_cdf(1 - x, b, a)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    c, d, fraction = 1.0, 0.0, 1.0
    for step in range(10_000):
        m = step // 2
        if step == 0:
            term = 1.0
        elif step % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1 / _nonzero(1 + term * d)
        c = _nonzero(1 + term / c)
        fraction *= c * d
        if step and abs(c * d - 1) < 1e-14:
            break
    return math.exp(front) / a * (fraction - 1)


def _nonzero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
