"""Choosing by AUROC: against brute force over pairs, ties and scores that are not finite included."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from export.calibrate import choice
from export.detectors.base import Energy
from runtime.engines.interface import Outputs
from runtime.manifest import Choice

Array = npt.NDArray[np.float32]


def pairs(known: Array, outliers: Array) -> float:
    above = (known[:, None] > outliers).mean()
    return float(above + (known[:, None] == outliers).mean() / 2)


def outputs(logits: Array, scores: Array | None = None) -> Outputs:
    return Outputs(logits, logits[:, :1] if scores is None else scores, np.ones(len(logits), bool))


def test_auroc_by_pairs_with_ties(rng: np.random.Generator) -> None:
    known, outliers = (rng.normal(mean, 1, 150).round(1).astype(np.float32) for mean in (1, 0))
    assert choice.auroc(known, outliers) == pytest.approx(pairs(known, outliers))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("lowest", [-3e38, 0.0])
def test_an_outlier_that_is_not_finite_is_below_everything(bad: float, lowest: float) -> None:
    known, outliers = np.array([1.0, lowest], np.float32), np.array([bad, lowest], np.float32)
    assert choice.auroc(known, outliers) == pytest.approx((1 + 1 + 1 + 0.5) / 4)
    assert choice.auroc(known, np.array([bad], np.float32)) == 1


def test_temperatures_are_compared_by_the_mean_over_sets(rng: np.random.Generator) -> None:
    known = outputs(rng.normal(0, 2, (60, 4)).astype(np.float32))
    sets = {name: outputs(rng.normal(0, 1, (count, 4)).astype(np.float32)) for name, count in (("a", 40), ("b", 7))}
    found = choice.compare_temperatures(known, sets)
    assert tuple(found) == choice.TEMPERATURES
    for temperature in (0.01, 1.0, 100.0):
        scores = {name: Energy(temperature).reference(part.logits, part.logits) for name, part in sets.items()}
        own = Energy(temperature).reference(known.logits, known.logits)
        expected = np.mean([pairs(own, values) for values in scores.values()])
        assert found[temperature] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("table", "best"),
    [
        ({0.1: 0.5, 1.0: 0.7, 10.0: 0.6}, 1.0),
        ({0.1: 0.9, 1.0: 0.7, 10.0: 0.6}, 0.1),
        ({0.1: 0.7, 1.0: 0.7, 10.0: 0.7}, 1.0),
        ({0.01: 0.7, 0.1: 0.7, 1.0: 0.6, 10.0: 0.7}, 0.1),
        ({0.1: 0.9, 1.0: 0.9892, 2.0: 0.9894, 50.0: 0.9895}, 1.0),
        ({1.0: 0.9880, 10.0: 0.9894, 50.0: 0.9895}, 10.0),
    ],
)
def test_the_best_temperature(table: dict[float, float], best: float) -> None:
    assert choice.best_temperature(table) == best


def test_the_energy_column_alone_changes(rng: np.random.Generator) -> None:
    before = outputs(rng.normal(0, 2, (5, 4)).astype(np.float32), rng.normal(size=(5, 3)).astype(np.float32))
    kept = before.scores.copy()
    after = choice.with_energy(before, 1, 0.1)
    np.testing.assert_array_equal(before.scores, kept)
    np.testing.assert_array_equal(after.scores[:, [0, 2]], kept[:, [0, 2]])
    np.testing.assert_allclose(after.scores[:, 1], Energy(0.1).reference(before.logits, before.logits), rtol=1e-6)


def test_the_table_has_every_score_and_set(rng: np.random.Generator) -> None:
    names = ("msp", "nan")
    known, a, b = (outputs(scores, scores) for scores in rng.normal(size=(3, 30, 2)).astype(np.float32))
    found = choice.compare(names, known, {"a": a, "b": b}, {0.5: 0.75})
    assert (found.n, found.outliers, found.temperatures) == (30, {"a": 30, "b": 30}, {"0.5": 0.75})
    for name, part in (("a", a), ("b", b)):
        for column, score in enumerate(names):
            assert found.auroc[name][score] == pytest.approx(pairs(known.scores[:, column], part.scores[:, column]))


@pytest.mark.parametrize(
    ("auroc", "best"),
    [
        ({"a": {"msp": 0.9, "nan": 0.8}}, "msp"),
        ({"a": {"msp": 0.9, "nan": 0.8}, "b": {"msp": 0.5, "nan": 0.7}}, "nan"),  # by the mean
        ({"a": {"msp": 0.9, "nan": 0.9}}, "msp"),  # of equals the first
    ],
)
def test_the_best_score(auroc: dict[str, dict[str, float]], best: str) -> None:
    assert choice.best_score(Choice(10, dict.fromkeys(auroc, 10), auroc)) == best
