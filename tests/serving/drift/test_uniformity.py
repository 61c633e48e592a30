"""Against scipy, and the level of the test by simulation over calibration sets."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats

from serving.drift.reference import Reference
from serving.drift.uniformity import kolmogorov_smirnov, kolmogorov_tail
from tests.p_values import p_values


@pytest.mark.parametrize("size", [20, 200, 5000])
@pytest.mark.parametrize("x", [0.2, 0.5, 0.8, 1.0, 1.36, 2.0, 3.0])
def test_tail(size: int, x: float) -> None:
    distance = x / (np.sqrt(size) + 0.12 + 0.11 / np.sqrt(size))
    assert kolmogorov_tail(distance, size) == pytest.approx(special.kolmogorov(x), abs=1e-5)
    assert kolmogorov_tail(distance, size) == pytest.approx(stats.kstwo.sf(distance, size), abs=0.02)


def test_the_distance_is_that_of_the_distribution_functions() -> None:
    reference = Reference(edges=np.array([0.1, 0.5, 1.0]), slots=np.array([10.0, 40.0, 50.0]))
    found = kolmogorov_smirnov(reference, np.array([30, 30, 40]))
    assert found.statistic == pytest.approx(0.2)  # 0.3 - 0.1
    assert found.p_value == pytest.approx(kolmogorov_tail(0.2, 99 * 100 / 199))


def test_an_empty_window_says_nothing() -> None:
    reference = Reference(edges=np.array([0.5, 1.0]), slots=np.array([50.0, 50.0]))
    assert kolmogorov_smirnov(reference, np.array([0, 0])).p_value == 1


def test_level_over_calibration_sets(rng: np.random.Generator) -> None:
    """5 % at most where the window is much larger than the calibration set, which fools a one-sample test."""
    n, window, runs = 500, 5000, 300
    two_sample = one_sample = 0
    for _ in range(runs):
        calibration = np.sort(rng.random(n))
        p = p_values(rng.random(window), np.arange(1, n + 1), calibration)
        reference = Reference.from_calibration(range(1, n + 1), calibration.tolist())
        counts = np.bincount(np.searchsorted(reference.edges, p), minlength=len(reference.edges))
        test = kolmogorov_smirnov(reference, counts)
        two_sample += test.p_value < 0.05
        one_sample += kolmogorov_tail(test.statistic, window) < 0.05
    assert two_sample / runs < 0.08
    assert one_sample / runs > 0.5
