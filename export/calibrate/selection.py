"""The threshold that bounds the error of accepted images: selective classification with a guarantee.

An image is accepted where it passes the gate and its selection score reaches a threshold t. Among accepted in-distribution
images the share R(t) that is classified wrong shall be at most r, but with probability delta over draws of the test
images. Given how many of these are accepted at a threshold that does not depend on them, the wrong ones among them are
binomial with rate R(t). So the null hypothesis R(t) > r has the exact p-value P(Bin(accepted, r) <= errors), that of Clopper
& Pearson's bound (1934). The thresholds are tested one after another in an order that other images set, from where these
have the most evidence towards more accepted images, each at level delta, until the first is not rejected: fixed-sequence
testing, so that no threshold that breaks the bound is passed but with probability delta (Learn then Test: Angelopoulos,
Bates, Candes, Jordan & Lei 2021, arXiv:2110.01052, sections 2.3 and 4; the promise is SGR's, Geifman & El-Yaniv 2017).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import beta, binom

from export import conformal
from runtime.exceptions import CalibrationError
from runtime.manifest import Selection

# Thresholds that are tried: quantiles of the tuning images that pass the gate, a percent of them apart.
GRID = 100
_RATES = tuple(i / 1000 for i in range(1, 1000))  # that an infeasible bound is answered with

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Judged:
    """Labelled in-distribution images.

    Attributes:
        scores: float32 (n,), of the selection.
        known: bool (n,), whether the gate lets each pass.
        right: bool (n,), whether each is classified right.
    """

    scores: npt.NDArray[np.float32]
    known: Flags
    right: Flags

    def counts(self, thresholds: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """How many images are accepted at each threshold, and how many of these are classified wrong."""
        scores = np.sort(self.scores[self.known])
        wrong = np.sort(self.scores[self.known & ~self.right])
        accepted = len(scores) - np.searchsorted(scores, thresholds, side="left")
        return accepted, len(wrong) - np.searchsorted(wrong, thresholds, side="left")


def fit(tuning: Judged, test: Judged, rate: float, confidence: float) -> Selection:
    """The threshold with the most accepted images that the tests pass.

    Args:
        tuning: images that set the order of the tests, and whatever else is fitted.
        test: other images, exchangeable with new ones; they set nothing but this threshold.
        rate: r.
        confidence: 1 - delta.

    Raises:
        CalibrationError: no threshold passes; the text says what is reachable.
    """
    found = search(tuning, test, rate, confidence)
    if found is None:
        raise CalibrationError(_infeasible(tuning, test, rate, confidence))
    return found


def search(tuning: Judged, test: Judged, rate: float, confidence: float) -> Selection | None:
    """What :func:`fit` finds; None where no threshold passes."""
    grid = thresholds(tuning)
    passed = _last_passed(grid, tuning, test, rate, confidence)
    if passed is None:
        return None
    accepted, errors = (int(count[passed]) for count in test.counts(grid))
    return Selection(float(grid[passed]), accepted, errors, upper(errors, accepted, confidence))


def thresholds(tuning: Judged) -> npt.NDArray[np.float32]:
    """The thresholds that are tried, descending: for ever larger shares of the tuning images that pass the gate."""
    scores = np.sort(tuning.scores[tuning.known])[::-1]
    places = np.ceil(len(scores) * np.arange(1, GRID + 1) / GRID).astype(np.int64) - 1
    return conformal.lowered(np.unique(scores[places]))[::-1] if len(scores) else scores


def upper(errors: int, accepted: int, confidence: float) -> float:
    """Clopper and Pearson's one-sided upper bound on an error (1934): the r with P(Bin(accepted, r) <= errors) = delta."""
    return 1.0 if errors >= accepted else float(beta.ppf(confidence, errors + 1, accepted - errors))


def _last_passed(
    grid: npt.NDArray[np.float32], tuning: Judged, test: Judged, rate: float, confidence: float
) -> int | None:
    """The place of the last threshold that is passed in the order of the tests; None where the first is not."""
    if not len(grid):
        return None
    evidence = _p_values(tuning, grid, rate)
    first = int(evidence.argmin())
    fails = np.flatnonzero(_p_values(test, grid[first:], rate) > 1 - confidence)
    passed = len(grid) - first if not len(fails) else int(fails[0])
    return first + passed - 1 if passed else None


def _p_values(images: Judged, grid: npt.NDArray[np.float32], rate: float) -> npt.NDArray[np.float64]:
    """P(Bin(accepted, r) <= errors) at each threshold; 1 where nothing is accepted."""
    accepted, errors = images.counts(grid)
    return np.asarray(binom.cdf(errors, accepted, rate))


def _infeasible(tuning: Judged, test: Judged, rate: float, confidence: float) -> str:
    """What to say of a rate that can't be promised: the smallest that can be, with its coverage."""
    what = f"an error of at most {rate:g} of accepted images can't be promised with {100 * confidence:g} % confidence"
    needed = math.ceil(math.log1p(-confidence) / math.log1p(-rate))
    if (known := int(test.known.sum())) < needed:
        what += f": it takes {needed} accepted test images of which none is wrong, and {known} pass the gate"
    for larger in _RATES:
        if larger > rate and (found := search(tuning, test, larger, confidence)):
            return (
                f"{what}; the smallest that these {len(test.scores)} images reach is --max-error {larger:g}, where "
                f"{100 * found.accepted / len(test.scores):.1f} % of known images are accepted; raise it, add labelled "
                "images, or --select another score"
            )
    return f"{what}, nor any other; add labelled images, or --select another score"
