"""Selective classification: the risk of the images that are answered, against their share."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from export.metrics.intervals import Interval, from_influence, share

COVERAGES = tuple(i / 100 for i in range(1, 101))


@dataclass(frozen=True)
class RiskCoverage:
    """How well an order of the images puts the right answers first.

    Attributes:
        aurc: area under the risk-coverage curve, the mean risk over the coverages 1/N, 2/N, .. 1 (Geifman & El-Yaniv
            2017); lower is better.
        aurc_interval: its 95 % interval.
        risk: share of wrong answers among the first 1 %, 2 %, .. 100 % of the images (:data:`COVERAGES`).
    """

    aurc: float
    aurc_interval: Interval
    risk: tuple[float, ...]


def risk_coverage(order: npt.NDArray[np.floating], right: npt.NDArray[np.bool_]) -> RiskCoverage:
    """The curve of answering by descending `order` (N,); images that tie come in random order, and the mean is taken."""
    n = len(order)
    values, group, sizes = np.unique(-order, return_inverse=True, return_counts=True)
    wrong = np.bincount(group, weights=~right).astype(np.float64)
    errors = np.cumsum(wrong) - wrong  # before each group of ties
    start = np.cumsum(sizes) - sizes
    place = np.arange(1, n + 1)
    tied = np.repeat(np.arange(len(values)), sizes)
    risks = (errors[tied] + wrong[tied] / sizes[tied] * (place - start[tied])) / place
    aurc = float(risks.mean())
    asked = np.maximum(1, np.round(np.array(COVERAGES) * n)).astype(np.int64)
    if right.all() or not right.any():
        interval = _uniform(n, right=bool(right.all()))
    else:
        interval = from_influence(aurc, _influence(group, sizes, wrong, right))
    return RiskCoverage(aurc, interval, tuple(risks[asked - 1]))


def _uniform(n: int, *, right: bool) -> Interval:
    """Where n answers are all right, or all wrong.

    The share u of the others is at most Clopper and Pearson's bound. The worst order has them first: the risk at the
    coverage c is min(1, u / c), whose mean is u (1 - ln u).
    """
    _, u = share(0, n)
    area = u * (1 - math.log(u))
    return (0.0, area) if right else (1 - area, 1.0)


def _influence(
    group: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int64],
    wrong: npt.NDArray[np.float64],
    right: npt.NDArray[np.bool_],
) -> npt.NDArray[np.float64]:
    """What each image adds to the area: the risk where it stands, and its own excess over the risk from there on.

    With G(c) the share of images ordered at least as high as c and r(c) their risk, the area is the mean of r, and an
    image at c adds (wrong - r(c')) / G(c') at every c' up to c.
    """
    n = len(group)
    covered = np.cumsum(sizes) / n
    risk = np.cumsum(wrong) / n / covered
    weight = sizes / n / covered
    after = np.cumsum(weight[::-1])[::-1]
    risk_after = np.cumsum((weight * risk)[::-1])[::-1]
    influence = risk[group] + np.where(right, 0.0, after[group]) - risk_after[group]
    return np.asarray(influence - influence.mean())
