"""Intervals against closed forms, the bootstrap, and what they promise: that they hold the truth in 95 % of samples."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta, binom, norm, t

from export.metrics.detection import auroc_influence
from export.metrics.intervals import false_positive_rate, from_influence, separation, share


@pytest.mark.parametrize("hits", range(11))
def test_share_leaves_the_binomial_tails_outside(hits: int) -> None:
    """At either end the observed count, or a more extreme one, has probability 2.5 %."""
    low, high = share(hits, 10)
    assert binom.sf(hits - 1, 10, low) == pytest.approx(0.025 if hits else 1)
    assert binom.cdf(hits, 10, high) == pytest.approx(0.025 if hits < 10 else 1)


def test_share_at_its_ends() -> None:
    assert share(0, 100) == (0, pytest.approx(1 - 0.025**0.01))
    assert share(100, 100) == (pytest.approx(0.025**0.01), 1)


def test_from_influence_is_students_on_the_logit_scale() -> None:
    """Two samples of 1/4 and -1/4, whose kurtosis is 1."""
    first, second = np.tile([0.25, -0.25], 4), np.tile([0.25, -0.25], 6)
    parts = [0.25**2 * n / (n - 1) / n for n in (8, 12)]
    freedom = 2 * sum(parts) ** 2 / sum(p**2 * (1 - (n - 3) / (n - 1)) / n for p, n in zip(parts, (8, 12), strict=True))
    margin = t.ppf(0.975, freedom) * np.sqrt(sum(parts)) / (0.7 * 0.3)
    expected = 1 / (1 + np.exp(-(np.log(0.7 / 0.3) + np.array([-margin, margin]))))
    assert from_influence(0.7, first, second) == pytest.approx(tuple(expected))


def test_few_observations_that_carry_the_variance_widen_the_interval() -> None:
    """Both samples have the same variance; in the second one observation of 1,000 has all of it."""
    even = np.tile([1.0, -1.0], 500)
    single = np.zeros(1000)
    single[0] = 1
    single -= single.mean()
    single *= np.sqrt((even**2).sum() / (single**2).sum())
    (low, high), (lower, higher) = from_influence(0.5, even / 10), from_influence(0.5, single / 10)
    assert lower < low < high < higher


def test_from_influence_of_a_single_observation_says_nothing() -> None:
    assert from_influence(0.3, np.zeros(1), np.array([0.5, -0.5])) == (0, 1)


def test_from_influence_without_variation() -> None:
    assert from_influence(0.5, np.zeros(9), np.zeros(9)) == (0.5, 0.5)


def test_separation() -> None:
    assert separation(100) == pytest.approx(1 - 0.025**0.01)


def test_false_positive_rate_at_a_sure_threshold_is_jeffreys() -> None:
    """All positives are equal, so the threshold is known, and 30 of 100 negatives reach it."""
    negatives = np.repeat([0.0, 5.0], [70, 30])
    found = false_positive_rate(np.full(200, 5.0), negatives, 0.95, 0.3)
    assert found == pytest.approx(tuple(beta.ppf([0.025, 0.975], 30.5, 70.5)), abs=1e-6)


def test_false_positive_rate_of_many_negatives_is_the_order_statistics() -> None:
    """Uniform positives, and negatives as a fine grid: the rate is 1 - threshold, the threshold is Beta(k, n + 1 - k)."""
    positives = (np.arange(400) + 0.5) / 400
    low, high = false_positive_rate(positives, np.linspace(0, 1, 10**6), 0.95, 0.95)
    ranks = beta.ppf([0.025, 0.975], 21, 380)
    assert (1 - high, 1 - low) == pytest.approx(tuple(ranks), abs=1 / 400)


def test_false_positive_rate_holds_the_figure() -> None:
    assert false_positive_rate(np.arange(20.0), np.full(50, -1.0), 0.95, 0.0)[0] == 0
    assert false_positive_rate(np.arange(20.0), np.full(50, 99.0), 0.95, 1.0)[1] == 1


def test_false_positive_rate_of_one_positive() -> None:
    low, high = false_positive_rate(np.array([1.0]), np.array([0.0, 2.0]), 0.95, 0.5)
    assert 0 <= low < 0.5 < high <= 1


def held(distance: float, samples: int) -> dict[str, int]:
    """In how many samples of n = m = 500 from N(distance, 1) and N(0, 1) the interval holds the true value."""
    rng = np.random.default_rng(7)
    auroc, fpr95 = norm.cdf(distance / np.sqrt(2)), norm.sf(distance + norm.ppf(0.05))
    counts = {"auroc": 0, "fpr95": 0}
    for _ in range(samples):
        known, unknown = rng.normal(distance, 1, 500), rng.normal(0, 1, 500)
        placed = np.searchsorted(np.sort(unknown), known).mean() / 500
        low, high = from_influence(placed, *auroc_influence(known, unknown))
        counts["auroc"] += low <= auroc <= high
        accepted = float(np.mean(unknown >= np.sort(known)[25]))
        low, high = false_positive_rate(known, unknown, 0.95, accepted)
        counts["fpr95"] += low <= fpr95 <= high
    return counts


@pytest.mark.parametrize("distance", [1.0, 2.0, 3.0])
def test_intervals_cover(distance: float) -> None:
    """In 93 to 97 % of samples, and what 600 samples leave to chance."""
    lowest, highest = binom.ppf(0.001, 600, 0.93), binom.ppf(0.999, 600, 0.97)
    assert all(lowest <= count <= highest for count in held(distance, 600).values())


def test_intervals_cover_where_scores_hardly_overlap() -> None:
    """At AUROC 99.98 % and FPR95 0.04 %, where the percentile bootstrap holds the latter in a third of the samples."""
    assert all(count >= binom.ppf(0.001, 300, 0.93) for count in held(5.0, 300).values())
