"""Risk against coverage, by answering image after image, ties in every order."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from export.metrics.selective import risk_coverage


def test_by_hand() -> None:
    """Right, wrong, right, right: risks 0, 1/2, 1/3, 1/4."""
    found = risk_coverage(np.array([9.0, 8.0, 7.0, 6.0]), np.array([True, False, True, True]))
    assert found.aurc == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    assert (found.risk[24], found.risk[49], found.risk[99]) == pytest.approx((0, 1 / 2, 1 / 4))
    assert len(found.risk) == 100


def test_ties_are_the_mean_over_their_orders() -> None:
    order, right = np.array([2.0, 1.0, 1.0, 1.0, 0.0]), np.array([False, True, False, True, True])
    areas = [np.mean(np.cumsum(~right[[0, *tied, 4]]) / np.arange(1, 6)) for tied in permutations([1, 2, 3])]
    assert risk_coverage(order, right).aurc == pytest.approx(np.mean(areas))


def test_the_best_and_the_worst_order() -> None:
    right = np.arange(1000) >= 100
    best, worst = (risk_coverage(sign * np.arange(1000.0), right) for sign in (1, -1))
    assert best.risk[89] == 0
    assert best.risk[99] == worst.risk[99] == pytest.approx(0.1)
    assert worst.risk[9] == 1
    assert best.aurc < 0.01 < 0.3 < worst.aurc


def test_never_wrong() -> None:
    found = risk_coverage(np.arange(9.0), np.ones(9, bool))
    assert (found.aurc, set(found.risk)) == (0, {0})


@pytest.mark.parametrize("n", [1, 40, 1000])
def test_answers_that_are_all_right_leave_errors_open(n: int) -> None:
    """(1 - u)^n = 2.5 %; with u of a million images wrong, and first, the area is the end of the interval."""
    u = 1 - 0.025 ** (1 / n)
    million = 10**6
    worst = np.minimum(1, u * million / np.arange(1, million + 1)).mean()
    order = np.arange(float(n))
    assert risk_coverage(order, np.ones(n, bool)).aurc_interval == pytest.approx((0, worst), abs=1e-5)
    assert risk_coverage(order, np.zeros(n, bool)).aurc_interval == pytest.approx((1 - worst, 1), abs=1e-5)


def test_the_interval_is_as_wide_as_the_bootstraps(rng: np.random.Generator) -> None:
    order = rng.normal(size=1500)
    right = rng.random(1500) < 1 / (1 + np.exp(-1 - 2 * order))
    found = risk_coverage(order, right)
    draws = []
    for _ in range(300):
        drawn = rng.integers(0, 1500, 1500)
        draws.append(risk_coverage(order[drawn], right[drawn]).aurc)
    low, high = found.aurc_interval
    assert low < found.aurc < high
    assert high - low == pytest.approx(np.subtract(*np.quantile(draws, [0.975, 0.025])), rel=0.25)
