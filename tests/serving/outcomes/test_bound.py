"""The bound that holds at all times: simulated, and against the exact bound of one look."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import beta, binom

from serving.outcomes.bound import _LOGS, _STAKES, upper

STREAMS, LENGTH = 500, 10_000


def money(errors: npt.NDArray[np.int64], answers: npt.NDArray[np.int64], rate: float) -> npt.NDArray[np.float64]:
    """What the bettors against `rate` have, of 1, after each look at each stream; they refute it from 20 on."""
    logs = [-log * errors - answers * np.log1p(-stake * rate) for log, stake in zip(_LOGS, _STAKES, strict=True)]
    return np.asarray(sum(np.exp(np.minimum(log, 50)) for log in logs) / len(_LOGS))


@pytest.mark.parametrize("rate", [0.005, 0.02, 0.3])
def test_it_is_below_the_error_at_any_time_in_at_most_5_of_100_streams(rate: float, rng: np.random.Generator) -> None:
    looks = np.unique(np.geomspace(1, LENGTH, 300).astype(int))
    errors = (rng.random((STREAMS, LENGTH)) < rate).cumsum(axis=1)[:, looks - 1]
    found = money(errors, looks, rate)
    ever = (found >= 20).any(axis=1)
    assert ever.mean() <= 0.05
    assert upper(int(errors[0, -1]), LENGTH) < 1.3 * rate + 0.002  # and it says something
    for stream in np.flatnonzero(ever)[:3]:
        at = int((found[stream] >= 20).argmax())
        assert upper(int(errors[stream, at]), int(looks[at])) < rate


@pytest.mark.parametrize(
    ("errors", "answers"), [(0, 1), (0, 100), (3, 200), (20, 1000), (500, 10_000), (9, 10), (10, 10)]
)
def test_it_is_above_the_bound_of_one_look_and_not_by_much(errors: int, answers: int) -> None:
    once = 1.0 if errors == answers else beta.ppf(0.95, errors + 1, answers - errors)
    assert once <= upper(errors, answers) <= min(1.0, errors / answers + 2.2 * (once - errors / answers) + 1e-9)


def test_where_the_error_changes_it_bounds_the_mean_so_far(rng: np.random.Generator) -> None:
    """A model that is good at first and bad later, and the other way about."""
    for rates in ((0.0, 0.2), (0.2, 0.0)):
        p = np.repeat(rates, 500)
        wrong = (rng.random((60, 1000)) < p).cumsum(axis=1)
        mean = p.cumsum() / np.arange(1, 1001)
        below = [any(upper(int(row[n - 1]), n) < mean[n - 1] for n in (50, 300, 500, 600, 800, 1000)) for row in wrong]
        assert np.mean(below) <= binom.ppf(0.999, 60, 0.05) / 60


def test_it_falls_with_right_answers_and_rises_with_wrong_ones() -> None:
    assert upper(0, 0) == 1
    falling = [upper(2, n) for n in range(2, 400, 9)]
    assert falling == sorted(falling, reverse=True)
    rising = [upper(k, 400) for k in range(0, 401, 25)]
    assert rising == sorted(rising)
    assert upper(2, 300, 0.99) > upper(2, 300, 0.95) > upper(2, 300, 0.5)


@pytest.mark.parametrize(("errors", "answers"), [(-1, 3), (4, 3)])
def test_counts_that_can_not_be(errors: int, answers: int) -> None:
    with pytest.raises(ValueError, match=f"errors must be from 0 to {answers}, found {errors}"):
        upper(errors, answers)
