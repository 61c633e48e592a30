"""Choosing among candidates by AUROC."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from export.detectors.choosing import best
from export.detectors.interface import Array, Features, Fitted, Observed, Score, Training
from export.exceptions import ExportError
from export.graph.building import Graph
from tests.export.detectors.graphs import digits


@dataclass(frozen=True)
class Projection(Fitted):
    """One column of the features."""

    column: int

    @classmethod
    def fit(cls, training: Training) -> Projection:
        return best((cls(column) for column in range(3)), training)

    def reference(self, logits: Features, penultimate: Features) -> Score:  # noqa: ARG002
        return np.asarray(penultimate[:, self.column], dtype=np.float64)

    def build(self, g: Graph, logits: str, penultimate: str) -> str:
        raise NotImplementedError


def training(*means: list[float]) -> Training:
    """Known features around 0, and a set of outliers for each list of means."""
    rng = np.random.default_rng(0)

    def around(mean: list[float] | Array) -> Observed:
        features = rng.normal(mean, 1, (300, 3)).astype(np.float32)
        return Observed(features, features)

    known = around([0, 0, 0])
    sets = {str(index): around(mean) for index, mean in enumerate(means)}
    layers = digits().training().layers
    return Training(known.logits, known.penultimate, np.zeros(300, np.int64), layers, outliers=sets)


def test_the_one_that_separates_best_on_the_mean_over_sets() -> None:
    assert training([0, -2, 0]).fit(Projection).column == 1
    assert training([0, -2, 0], [-1, 0, -3]).fit(Projection).column == 2


def test_of_equals_the_first() -> None:
    same = training([-50, -50, -50])
    assert same.fit(Projection).column == 0


def test_one_candidate_needs_no_outliers() -> None:
    assert best([Projection(2)], training()).column == 2
    with pytest.raises(ExportError, match="there are none"):
        training().fit(Projection)
