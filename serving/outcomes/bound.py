"""An upper bound on an error rate that holds at all times at once, however often one looks and whenever one stops.

Bettors bet against "the error rate is p or more". One with the stake c multiplies its money by (1 - c) / (1 - c p) for an
answer that is wrong, and by 1 / (1 - c p) for one that is right: fair where the next answer is wrong with probability p.
With k of n answers wrong it has

    (1 - c)^k / (1 - c p)^n.

The mean of all bettors' money is a martingale that reaches 1 / delta, ever, with probability at most delta (Ville 1939), so
that every p at which it has is refuted. It grows with p: the smallest such p is the bound. Where the probabilities p_i of
the answers differ, the product of the 1 - c p_i is at most (1 - c p)^n, p being their mean (log is concave), so the bound is
one on the mean error probability of the answers so far, whatever made it change. It depends on k and n alone: workers add
up theirs.

Sources: Waudby-Smith & Ramdas 2024, "Estimating means of bounded random variables by betting", JRSS B 86(1); the
sub-Bernoulli mixture and running means: Howard, Ramdas, McAuliffe & Sekhon 2021, "Time-uniform, nonparametric, nonasymptotic
confidence sequences", Annals of Statistics 49(2).
"""

from __future__ import annotations

import math

import numpy as np

# Stakes c = 1 - exp(-l): the best for an error rate of q below p is about 1 - q / p. All have the same weight.
_LOGS = np.geomspace(0.01, 12, 48)
_STAKES = -np.expm1(-_LOGS)

_PRECISION = 1e-9


def upper(errors: int, answers: int, confidence: float = 0.95) -> float:
    """The bound on the mean error probability after some answers; 1 without any.

    Over all numbers of answers together it is below the mean error probability with probability at most 1 - confidence.

    Args:
        errors: k, how many answers were wrong.
        answers: n.
        confidence: 1 - delta.
    """
    if not 0 <= errors <= answers:
        raise ValueError(f"errors must be from 0 to {answers}, found {errors}")
    level = -math.log1p(-confidence)
    low, high = 0.0, 1.0
    while high - low > _PRECISION:
        middle = (low + high) / 2
        low, high = (low, middle) if _log_money(errors, answers, middle) >= level else (middle, high)
    return high


def _log_money(errors: int, answers: int, p: float) -> float:
    logs = -_LOGS * errors - answers * np.log1p(-_STAKES * p)
    return float(np.logaddexp.reduce(logs) - math.log(len(_LOGS)))
