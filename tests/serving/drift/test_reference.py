"""Slots by brute force: every place where a new score can fall, sent through the runtime's own p-values."""

from __future__ import annotations

import numpy as np
import pytest

from export import conformal
from serving.drift.reference import Reference
from tests.p_values import p_values


def reference_of(calibration: np.ndarray) -> Reference:
    ranks = conformal.stored_ranks(len(calibration))
    return Reference.from_calibration(ranks.tolist(), np.sort(calibration)[ranks - 1].tolist())


def slots_by_brute_force(calibration: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """One score between any two neighbours, below all and above all: which bin its p-value falls into."""
    ordered = np.sort(calibration)
    between = np.concatenate([[ordered[0] - 1], (ordered[1:] + ordered[:-1]) / 2, [ordered[-1] + 1]])
    ranks = conformal.stored_ranks(len(calibration))
    p = p_values(between, ranks, ordered[ranks - 1])
    counts = np.zeros(len(edges))
    for value in p:
        counts[next(b for b, edge in enumerate(edges) if value <= edge)] += 1
    return counts


@pytest.mark.parametrize("n", [19, 500, 2500, 4096, 5000, 12_345])
def test_slots(n: int, rng: np.random.Generator) -> None:
    calibration = rng.normal(size=n)
    reference = reference_of(calibration)
    np.testing.assert_array_equal(reference.slots, slots_by_brute_force(calibration, reference.edges))
    assert reference.n == n
    assert reference.edges[-1] == 1
    assert reference.probabilities.sum() == pytest.approx(1)


@pytest.mark.parametrize("n", [200, 3000])
def test_tied_scores_share_a_bin(n: int, rng: np.random.Generator) -> None:
    """A third of the scores saturate at 1: their p-value is 1, and no p-value lies just below."""
    calibration = np.where(rng.random(n) < 1 / 3, 1.0, rng.random(n))
    tied = (calibration == 1).sum()
    reference = reference_of(calibration)
    assert reference.slots[-1] == tied
    assert reference.n == n
    locate = reference.locator()
    assert locate(1.0) == len(reference.edges) - 1
    assert locate((n - tied + 1) / (n + 1)) == len(reference.edges) - 2


def test_new_scores_fall_into_the_bins_in_proportion(rng: np.random.Generator) -> None:
    """On average over calibration sets, ties and stored ranks included."""
    seen, expected = np.zeros(2), np.zeros(2)
    for _ in range(300):
        calibration, new = np.round(rng.normal(size=300), 1), np.round(rng.normal(size=300), 1)
        reference = reference_of(calibration)
        p = p_values(new, np.arange(1, 301), np.sort(calibration))
        locate = reference.locator()
        bins = np.array([locate(value) for value in p])
        low = reference.edges <= 0.1
        seen += low[bins].sum(), (~low)[bins].sum()
        expected += 300 * reference.probabilities[low].sum(), 300 * reference.probabilities[~low].sum()
    assert seen[0] / seen.sum() == pytest.approx(expected[0] / expected.sum(), abs=0.012)  # a slot in 301 is 0.003


def test_the_locator_is_searchsorted(rng: np.random.Generator) -> None:
    reference = reference_of(rng.normal(size=999))
    locate = reference.locator()
    p = np.arange(1, 1001) / 1000
    assert [locate(value) for value in p.tolist()] == np.searchsorted(reference.edges, p).tolist()


@pytest.mark.parametrize("p_value", [0.0, -0.1, 1.0001, float("nan"), float("inf")])
def test_no_p_value(p_value: float, rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match=r"a p-value is in \(0, 1\]"):
        reference_of(rng.normal(size=50)).locator()(p_value)
