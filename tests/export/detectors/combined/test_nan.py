"""NAN's compositions from their parts."""

from __future__ import annotations

import numpy as np
import pytest

from export.detectors import DETECTORS
from export.detectors.base import Nan
from export.detectors.distances.knn import Knn
from export.detectors.distances.ssd import Ssd
from export.detectors.interface import Fitted
from export.detectors.shaping.react import React
from tests.export.detectors.graphs import Example, digits


@pytest.mark.parametrize(("name", "distance"), [("nan_knn", Knn), ("nan_ssd", Ssd)])
def test_a_distance_divided_by_nan(name: str, distance: type[Fitted]) -> None:
    """Eq. 49: d / ||a||_NAN, negated."""
    example = digits()
    training = example.training()
    d = -training.fit(distance).reference(example.scored, example.scored)
    found = training.fit(DETECTORS[name]).reference(example.scored, example.scored)
    np.testing.assert_allclose(found, -d / Nan().reference(example.scored, example.scored), rtol=1e-12)


@pytest.mark.parametrize(("name", "plain"), [("nan_react_knn", "nan_knn"), ("nan_react_ssd", "nan_ssd")])
def test_with_react_it_is_the_same_of_a_model_whose_activations_are_clipped(name: str, plain: str) -> None:
    example = digits()
    training = example.training()
    found = training.fit(DETECTORS[name]).reference(example.scored, example.scored)
    clip = np.float32(training.fit(React).clip)
    clipped = Example(
        example.model, np.minimum(example.fitted_on, clip), example.labels, np.minimum(example.scored, clip)
    )
    expected = clipped.training().fit(DETECTORS[plain]).reference(clipped.scored, clipped.scored)
    np.testing.assert_array_equal(found, expected)
    assert (found != training.fit(DETECTORS[plain]).reference(example.scored, example.scored)).any()


@pytest.mark.parametrize("name", ["nan_knn", "nan_ssd", "nan_react_knn", "nan_react_ssd"])
def test_without_a_positive_activation_the_score_is_low_and_finite(name: str) -> None:
    example = digits()
    detector = example.training().fit(DETECTORS[name])
    typical = detector.reference(example.scored, example.scored)
    found = detector.reference(example.scored[:1], np.zeros((1, 48)))
    assert np.isfinite(np.float32(found))
    assert found < 1e3 * typical.min()
