"""Label sets: how often the true label is among them."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from export.calibrate.label_sets import fit
from runtime.exceptions import CalibrationError
from runtime.rule import label_set

Array = npt.NDArray[np.float64]
SETS = 2000


def drawn(n: int, rng: np.random.Generator, classes: int = 5) -> tuple[Array, npt.NDArray[np.int64]]:
    """Probabilities, and labels that they are true of."""
    probabilities = rng.dirichlet(np.full(classes, 0.4), n)
    labels = (rng.random((n, 1)) > probabilities.cumsum(axis=1)).sum(axis=1)
    return probabilities, np.minimum(labels, classes - 1)


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_coverage_is_in_its_beta_band(coverage: float, rng: np.random.Generator) -> None:
    """P(true label's probability >= t), by a large sample; over calibration sets it is Beta(n + 1 - k, k)."""
    n = 99
    k = round((1 - coverage) * (n + 1))
    probabilities, labels = drawn(400_000, rng)
    own = np.sort(probabilities[np.arange(len(labels)), labels])
    sets = rng.choice(own, (SETS, n))
    found = np.array([fit(np.column_stack([row, 1 - row]), np.zeros(n, int), coverage).threshold for row in sets[:200]])
    np.testing.assert_allclose(found, np.partition(sets[:200], k - 1, axis=1)[:, k - 1] * (1 - 1e-6), rtol=1e-12)
    covered = 1 - np.searchsorted(own, np.partition(sets, k - 1, axis=1)[:, k - 1]) / len(own)
    assert covered.mean() >= coverage - 3.5 * covered.std() / math.sqrt(SETS)
    assert stats.kstest(covered, stats.beta(n + 1 - k, k).cdf).pvalue > 0.005


def test_new_images_are_covered_and_sizes_are_those_of_the_sets(rng: np.random.Generator) -> None:
    known, new = drawn(2000, rng), drawn(2000, rng)
    found = fit(*known, 0.9)
    sets = [label_set(row, found.threshold) for row in new[0]]
    covered = np.mean([label in members for label, members in zip(new[1].tolist(), sets, strict=True)])
    assert 0.88 < covered < 0.96
    assert found.n == 2000
    assert found.size == pytest.approx(np.mean([len(label_set(row, found.threshold)) for row in known[0]]))


def test_no_set_is_empty() -> None:
    assert label_set(np.array([0.3, 0.4, 0.3]), 0.9) == [1]
    assert fit(np.tile([0.3, 0.7], (99, 1)), np.ones(99, int), 0.9).size == 1


@pytest.mark.parametrize(("coverage", "needed"), [(0.9, 9), (0.95, 19), (0.99, 99)])
def test_too_few_images(coverage: float, needed: int, rng: np.random.Generator) -> None:
    assert fit(*drawn(needed, rng), coverage).n == needed
    with pytest.raises(
        CalibrationError, match=f"{needed - 1} labelled images .* coverage {coverage}: at least {needed} are"
    ):
        fit(*drawn(needed - 1, rng), coverage)
