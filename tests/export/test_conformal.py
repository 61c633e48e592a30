"""The guarantee by exchangeability and by simulation; order statistics and p-values by brute force."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from export import conformal
from export.conformal import MAX_STORED, rank, stored_ranks, threshold
from runtime.exceptions import CalibrationError
from runtime.rule import p_value
from tests.p_values import p_values

Array = npt.NDArray[np.float64]


def _samples() -> dict[str, Array]:
    rng = np.random.default_rng(7)
    return {
        "continuous": rng.normal(size=60),
        "ties": rng.integers(0, 5, 60).astype(float),
        "mostly one value": np.where(rng.random(60) < 0.9, 1.0, rng.normal(size=60)),
        "constant": np.full(60, 3.25),
        "ascending": np.arange(60.0),
        "huge and tiny": np.concatenate([rng.normal(size=30) * 1e30, rng.normal(size=30) * 1e-30]),
    }


SAMPLES = _samples()
ALPHAS = [0.02, 0.05, 0.1, 0.29, 0.5, 0.9]


def _p_brute_force(scores: Array, calibration: Array) -> Array:
    return np.array([(1 + sum(c <= s for c in calibration)) / (len(calibration) + 1) for s in scores])


def _exact_p_values(scores: Array, calibration: Array) -> Array:
    return p_values(scores, stored_ranks(len(calibration)), np.sort(calibration))


# --- rank


@pytest.mark.parametrize("percent", range(1, 100))
def test_rank_takes_alpha_as_it_is_written(percent: int) -> None:
    assert rank(99, percent / 100) == percent


@pytest.mark.parametrize("kind", [float, np.float64])
def test_rank_of_a_numpy_alpha(kind: type[float]) -> None:
    assert rank(99, kind(0.29)) == 29


@pytest.mark.parametrize("alpha", ["0.001", "0.01", "0.05", "0.07", "0.1", "0.25", "0.333", "0.9", "1e-3"])
@pytest.mark.parametrize("n", [999, 1000, 1001, 4999, 10_000])
def test_rank_is_the_largest_that_keeps_the_promise(n: int, alpha: str) -> None:
    k = rank(n, float(alpha))
    assert Fraction(k, n + 1) <= Fraction(alpha) < Fraction(k + 1, n + 1)


@pytest.mark.parametrize(
    ("alpha", "needed"), [(0.05, 19), (0.01, 99), (0.1, 9), (0.3, 3), (0.001, 999), (0.5, 1), (0.07, 14), (0.9, 1)]
)
def test_too_few_images_are_told_how_many_are_needed(alpha: float, needed: int) -> None:
    assert rank(needed, alpha) >= 1
    with pytest.raises(CalibrationError, match=rf"^{needed - 1} calibration .* at least {needed} are needed"):
        rank(needed - 1, alpha)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, 1.5, math.nan, math.inf, -math.inf])
def test_alpha_outside_zero_and_one_is_an_error(alpha: float) -> None:
    with pytest.raises(CalibrationError, match="between 0 and 1"):
        rank(1000, alpha)


# --- threshold


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("name", SAMPLES)
def test_threshold_is_the_kth_smallest(name: str, alpha: float) -> None:
    k = math.floor(Fraction(str(alpha)) * 61)
    assert threshold(SAMPLES[name], alpha) == sorted(SAMPLES[name].tolist())[k - 1]


def test_threshold_is_one_of_the_float32_scores() -> None:
    scores = np.random.default_rng(0).normal(size=99).astype(np.float32)
    assert np.float32(threshold(scores, 0.1)) == np.sort(scores)[9]


def test_threshold_leaves_its_input_in_order() -> None:
    scores = np.arange(20.0)[::-1].copy()
    threshold(scores, 0.1)
    np.testing.assert_array_equal(scores, np.arange(20.0)[::-1])


def test_constant_scores_reject_none_of_their_kind() -> None:
    assert threshold(np.full(99, 2.5), 0.1) == 2.5


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_an_error(bad: float) -> None:
    scores = np.arange(99.0)
    scores[[3, 50]] = bad
    with pytest.raises(CalibrationError, match="2 of 99"):
        threshold(scores, 0.1)


def test_no_scores_are_too_few() -> None:
    with pytest.raises(CalibrationError, match=r"^0 calibration images are too few"):
        threshold(np.empty(0), 0.1)


def test_check_finite_counts_over_all_scores_of_an_image() -> None:
    scores = np.zeros((10, 6))
    scores[0, 0], scores[9, 5] = math.nan, math.inf
    with pytest.raises(CalibrationError, match="2 of 60"):
        conformal.check_finite(scores)


# --- the guarantee


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("name", SAMPLES)
def test_each_of_n_plus_one_held_out_in_turn_is_rejected_at_most_alpha(name: str, alpha: float) -> None:
    scores = SAMPLES[name]
    rejected = sum(score < threshold(np.delete(scores, i), alpha) for i, score in enumerate(scores))
    assert rejected <= Fraction(str(alpha)) * len(scores)


@pytest.mark.parametrize(("n", "alpha"), [(19, 0.05), (99, 0.05), (200, 0.1), (500, 0.29)])
def test_realised_rejection_rates_follow_the_beta_law(n: int, alpha: float) -> None:
    """For uniform scores the rejection rate of a threshold is the threshold itself."""
    rng = np.random.default_rng(n)
    rates = np.array([threshold(rng.random(n), alpha) for _ in range(2000)])
    k = math.floor(Fraction(str(alpha)) * (n + 1))
    law = stats.beta(k, n + 1 - k)
    assert law.mean() <= alpha
    assert abs(rates.mean() - law.mean()) < 4 * law.std() / math.sqrt(len(rates))
    assert stats.kstest(rates, law.cdf).pvalue > 1e-3


def test_ties_only_lower_the_rejection_rate() -> None:
    rng = np.random.default_rng(3)
    rates = [threshold(rng.integers(0, 6, 99).astype(float), 0.2) / 6 for _ in range(1000)]
    assert np.mean(rates) <= 0.2


# --- p-values


@pytest.mark.parametrize("name", SAMPLES)
def test_p_values_count_the_calibration_scores_up_to_theirs(name: str) -> None:
    calibration = SAMPLES[name]
    between = np.concatenate([calibration, calibration - 0.5, [calibration.min() - 1, calibration.max() + 1]])
    np.testing.assert_array_equal(_exact_p_values(between, calibration), _p_brute_force(between, calibration))


@pytest.mark.parametrize("name", SAMPLES)
def test_p_values_of_n_plus_one_held_out_in_turn_are_valid(name: str) -> None:
    scores = SAMPLES[name]
    held_out = [_exact_p_values(scores[[i]], np.delete(scores, i)).item() for i in range(len(scores))]
    for u in np.arange(1, len(scores) + 1) / len(scores):
        assert np.mean(np.array(held_out) <= u) <= u + 1e-12


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("name", ["continuous", "ties", "constant"])
def test_a_score_is_accepted_where_its_p_value_exceeds_alpha(name: str, alpha: float) -> None:
    """p <= k / (n + 1) says that fewer than k calibration scores are <= s, hence s < threshold."""
    calibration = SAMPLES[name]
    scores = np.concatenate([calibration, calibration + 0.1, calibration - 0.1])
    k = math.floor(Fraction(str(alpha)) * 61)
    accepted = scores >= threshold(calibration, alpha)
    np.testing.assert_array_equal(accepted, np.rint(_exact_p_values(scores, calibration) * 61) > k)


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_has_the_smallest_p_value(score: float) -> None:
    assert _exact_p_values(np.array([score]), np.arange(9.0)) == 1 / 10


def test_p_values_lie_between_one_over_n_plus_one_and_one() -> None:
    low, high = _exact_p_values(np.array([-1e30, 1e30]), np.arange(9.0))
    assert (low, high) == (1 / 10, 1)


def test_no_scores_have_no_p_values() -> None:
    assert _exact_p_values(np.empty(0), np.arange(9.0)).shape == (0,)


# --- compressed order statistics

LARGE = [MAX_STORED + 1, 5000, 12_345, 50_000, 1_000_000]


@pytest.mark.parametrize("n", [1, 2, 100, MAX_STORED])
def test_every_rank_is_stored_up_to_the_limit(n: int) -> None:
    assert stored_ranks(n).tolist() == list(range(1, n + 1))


@pytest.mark.parametrize("n", LARGE)
def test_stored_ranks_are_few_and_end_with_n(n: int) -> None:
    ranks = stored_ranks(n)
    assert len(ranks) <= MAX_STORED
    assert (ranks[0], ranks[-1]) == (1, n)


@pytest.mark.parametrize("n", LARGE)
def test_stored_ranks_ascend_in_even_steps_after_the_low_tail(n: int) -> None:
    ranks = stored_ranks(n)
    low = MAX_STORED // 2
    assert ranks[:low].tolist() == list(range(1, low + 1))
    assert (np.diff(ranks) >= 1).all()
    assert np.diff(ranks).max() <= math.ceil((n - low) / (low - 1))


@pytest.fixture(scope="module")
def large() -> Array:
    return np.sort(np.random.default_rng(11).normal(size=20_000))


def _compressed(scores: Array, calibration: Array) -> Array:
    ranks = stored_ranks(len(calibration))
    return p_values(scores, ranks, calibration[ranks - 1])


@pytest.mark.parametrize("n", [9, 5000])
def test_one_p_value_is_one_of_several(n: int, rng: np.random.Generator) -> None:
    calibration = np.sort(rng.normal(size=n).round(2))
    scores = np.concatenate([rng.normal(size=500).round(2), [-1e30, 1e30, np.nan, np.inf, -np.inf]])
    ranks = stored_ranks(n)
    found = [p_value(score, ranks.tolist(), calibration[ranks - 1].tolist()) for score in scores]
    assert found == p_values(scores, ranks, calibration[ranks - 1]).tolist()


def test_compressed_p_values_are_never_below_the_exact_ones(large: Array, rng: np.random.Generator) -> None:
    scores = np.concatenate([rng.normal(size=2000), large[::37], [-9.0, 9.0]])
    exact = (1 + np.searchsorted(large, scores, side="right")) / (len(large) + 1)
    excess = _compressed(scores, large) - exact
    step = math.ceil(len(large) / (MAX_STORED // 2 - 1))
    assert excess.min() >= 0
    assert excess.max() <= step / (len(large) + 1)


def test_compressed_p_values_are_exact_in_the_low_tail(large: Array) -> None:
    tail = large[: MAX_STORED // 2 - 1]
    scores = np.concatenate([tail, tail - 1e-9])
    exact = (1 + np.searchsorted(large, scores, side="right")) / (len(large) + 1)
    np.testing.assert_array_equal(_compressed(scores, large), exact)


@pytest.mark.parametrize("kind", ["distinct", "ties"])
def test_compressed_p_values_of_n_plus_one_held_out_in_turn_are_valid(kind: str) -> None:
    n = 6000
    scores = np.arange(n + 1.0) if kind == "distinct" else np.repeat(np.arange((n + 1) / 3), 3)
    ranks = stored_ranks(n)
    p = np.array([p_values(scores[[i]], ranks, np.delete(scores, i)[ranks - 1]).item() for i in range(n + 1)])
    shares = np.searchsorted(np.sort(p), np.unique(p), side="right") / (n + 1)
    assert (shares <= np.unique(p) + 1e-12).all()


def test_compressed_p_values_fall_with_the_score(large: Array) -> None:
    assert (np.diff(_compressed(np.linspace(-5, 5, 1000), large)) >= 0).all()
