"""The bound on the error of accepted images: what it takes, what it says where it can't be had, and whether it holds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from export.calibrate.selection import Judged, fit, search, thresholds, upper
from runtime.exceptions import CalibrationError

RATE, CONFIDENCE = 0.02, 0.95


@dataclass(frozen=True)
class Population:
    """Scores u, uniform in (0, 1); an image is wrong with probability worst (1 - u)^power; nine of ten pass the gate."""

    worst: float
    power: float

    def draw(self, n: int, rng: np.random.Generator) -> Judged:
        u = rng.random(n)
        return Judged(u.astype(np.float32), rng.random(n) < 0.9, rng.random(n) >= self.worst * (1 - u) ** self.power)

    def error(self, threshold: float) -> float:
        """R(t), the mean of the probability above t."""
        return self.worst * (1 - threshold) ** self.power / (self.power + 1)


EASY, HARD, NEAR = Population(0.03, 2), Population(0.9, 2), Population(RATE * 1.0001, 0)


def judged(rng: np.random.Generator, n: int = 2000, population: Population = HARD) -> tuple[Judged, Judged]:
    return population.draw(n, rng), population.draw(n, rng)


# --- whether it holds


@pytest.mark.parametrize("population", [EASY, HARD, NEAR], ids=["easy", "hard", "near"])
def test_the_bound_is_broken_in_at_most_5_of_100_calibrations(population: Population, rng: np.random.Generator) -> None:
    """The error of the threshold that comes out is known exactly; where none comes out, nothing is accepted."""
    sets, broken, coverage = 400, 0, 0.0
    for _ in range(sets):
        if found := search(*judged(rng, 3000, population), RATE, CONFIDENCE):
            broken += population.error(found.threshold) > RATE
            coverage += (1 - found.threshold) / sets
    assert broken <= binom.ppf(0.999, sets, 0.05)
    if population is NEAR:
        assert broken >= 0.02 * sets  # where every threshold is just beyond the bound it is as tight as it can be
    if population is EASY:
        assert coverage > 0.95
    if population is HARD:
        assert 0.1 < coverage < 0.258  # beyond which the error is more than 2 %


# --- what comes out


def test_counts_are_those_of_the_images_that_pass_both(rng: np.random.Generator) -> None:
    tuning, test = judged(rng)
    found = fit(tuning, test, RATE, CONFIDENCE)
    accepted = test.known & (test.scores >= np.float32(found.threshold))
    assert (found.accepted, found.errors) == (accepted.sum(), (accepted & ~test.right).sum())
    assert tuning.scores[tuning.scores >= found.threshold].min() == pytest.approx(found.threshold, rel=2e-6)
    exact = binomtest(found.errors, found.accepted).proportion_ci(0.9, "exact").high  # two-sided 90 %: 5 % above
    assert found.upper == pytest.approx(exact)
    assert found.upper <= RATE


def test_each_threshold_up_to_it_passes_and_the_next_does_not(rng: np.random.Generator) -> None:
    """The tests one by one, from the one with the most evidence among the tuning images."""
    tuning, test = judged(rng)
    grid = thresholds(tuning)
    assert (np.diff(grid) < 0).all()

    def p_value(images: Judged, threshold: np.float32) -> float:
        accepted = images.known & (images.scores >= threshold)
        return float(binom.cdf((accepted & ~images.right).sum(), accepted.sum(), RATE))

    place = int(np.argmin([p_value(tuning, threshold) for threshold in grid]))
    while place < len(grid) and p_value(test, grid[place]) <= 1 - CONFIDENCE:
        place += 1
    assert np.float32(fit(tuning, test, RATE, CONFIDENCE).threshold) == grid[place - 1]


def test_all_are_accepted_where_all_are_right(rng: np.random.Generator) -> None:
    tuning, test = judged(rng, 400, Population(0, 1))
    found = fit(tuning, test, RATE, CONFIDENCE)
    assert found.threshold == pytest.approx(tuning.scores[tuning.known].min(), rel=2e-6)
    assert found.errors == 0
    assert found.upper == pytest.approx(1 - 0.05 ** (1 / found.accepted))


def test_tied_scores_are_accepted_together() -> None:
    scores, right = np.repeat(np.float32([1, 0.5]), [300, 100]), np.repeat([True, False], [300, 100])
    images = Judged(scores, np.ones(400, np.bool_), right)
    found = fit(images, images, RATE, CONFIDENCE)
    assert (found.threshold, found.accepted, found.errors) == (pytest.approx(1, abs=2e-6), 300, 0)
    assert found.threshold < np.nextafter(np.float32(1), np.float32(0))  # another engine may compute a last bit less


@pytest.mark.parametrize(("errors", "accepted", "bound"), [(0, 0, 1.0), (5, 5, 1.0), (0, 149, 0.0199), (0, 1, 0.95)])
def test_the_upper_bound(errors: int, accepted: int, bound: float) -> None:
    assert upper(errors, accepted, 0.95) == pytest.approx(bound, abs=1e-4)


# --- where it can't be had


def test_what_is_reachable_is_said_and_is_reached(rng: np.random.Generator) -> None:
    tuning, test = judged(rng)
    with pytest.raises(CalibrationError) as error:
        fit(tuning, test, 0.001, CONFIDENCE)
    text = str(error.value)
    assert text.startswith("an error of at most 0.001 of accepted images can't be promised with 95 % confidence")
    assert (
        f"it takes {math.ceil(math.log(0.05) / math.log(0.999))} accepted test images of which none is wrong, and"
        in text
    )
    reachable = float(text.partition("--max-error ")[2].partition(",")[0])
    found = fit(tuning, test, reachable, CONFIDENCE)
    assert f"{100 * found.accepted / 2000:.1f} % of known images are accepted" in text
    with pytest.raises(CalibrationError, match=f"reach is --max-error {reachable:g},"):
        fit(tuning, test, reachable - 0.001, CONFIDENCE)


def test_images_that_are_all_wrong_reach_nothing(rng: np.random.Generator) -> None:
    with pytest.raises(CalibrationError, match="nor any other; add labelled images, or --select another score"):
        fit(*judged(rng, 100, Population(1, 0)), RATE, CONFIDENCE)


def test_images_of_which_none_passes_the_gate_reach_nothing() -> None:
    none = Judged(np.ones(9, np.float32), np.zeros(9, np.bool_), np.ones(9, np.bool_))
    with pytest.raises(CalibrationError, match="and 0 pass the gate, nor any other"):
        fit(none, none, RATE, CONFIDENCE)
