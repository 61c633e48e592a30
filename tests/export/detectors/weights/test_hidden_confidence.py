"""The hidden classifier's confidence, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from export.detectors.weights.hidden_confidence import HiddenConfidence
from tests.export.detectors.graphs import Example, linear, random


def test_a_weight_of_zero_counts_as_negative() -> None:
    """NAN after eq. 3: sign(x) is 1 if x > 0 and -1 otherwise."""
    model = linear([[0.5, -2, 0], [-1, 3, 1]], [9, -9])  # the bias has no part in it
    detector = (
        Example(model, np.ones((1, 3), np.float32), np.zeros(1, np.int64), np.ones((1, 3)))
        .training()
        .fit(HiddenConfidence)
    )
    scores = detector.reference(np.zeros((3, 2)), np.array([[1.0, 2, 4], [5, 0, 1], [0, 0, 0]]))
    assert scores.tolist() == [max(1 - 2 - 4, -1 + 2 + 4), max(5 - 0 - 1, -5 + 0 + 1), 0]


def test_never_exceeds_the_feature_norm() -> None:
    """Theorem 3: it approximates the norm from below, and is it where the signs of a class's weights are those of a."""
    example = random()
    detector = example.training().fit(HiddenConfidence)
    features = np.abs(example.scored)
    norms = features.sum(axis=1, dtype=np.float64)
    assert (detector.reference(features, features) <= norms * (1 + 1e-12)).all()
    active = np.where(detector.signs[4] > 0, 2.0, 0.0)[None]
    assert detector.reference(active, active) == pytest.approx(active.sum())
