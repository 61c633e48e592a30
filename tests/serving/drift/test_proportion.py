"""Against scipy, and in closed form where there is one."""

from __future__ import annotations

import pytest
from scipy import special, stats

from serving.drift.proportion import beta_cdf, clopper_pearson


@pytest.mark.parametrize("a", [0.5, 1, 3, 40, 2500])
@pytest.mark.parametrize("b", [0.5, 1, 7, 500, 9000])
@pytest.mark.parametrize("x", [0.0, 1e-6, 0.003, 0.05, 0.2, 0.5, 0.9, 0.9999, 1.0])
def test_beta_cdf(a: float, b: float, x: float) -> None:
    assert beta_cdf(x, a, b) == pytest.approx(special.betainc(a, b, x), rel=1e-8, abs=1e-11)


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
@pytest.mark.parametrize(
    ("k", "n"), [(0, 1), (1, 1), (0, 50), (50, 50), (3, 50), (25, 50), (500, 10_000), (9990, 10_000)]
)
def test_the_interval_is_scipy_s(k: int, n: int, confidence: float) -> None:
    expected = stats.binomtest(k, n).proportion_ci(confidence, "exact")
    assert clopper_pearson(k, n, confidence) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_closed_form_without_successes() -> None:
    assert clopper_pearson(0, 30) == pytest.approx((0.0, 1 - 0.025 ** (1 / 30)), abs=1e-9)


def test_nothing_is_known_without_trials() -> None:
    assert clopper_pearson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("k", "n"), [(-1, 5), (6, 5), (1, 0)])
def test_impossible_counts(k: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"successes must be from 0 to {n}, found {k}"):
        clopper_pearson(k, n)
