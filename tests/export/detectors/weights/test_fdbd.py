"""fDBD by a loop over classes."""

from __future__ import annotations

import numpy as np
import pytest

from export.detectors.weights.fdbd import Fdbd
from export.exceptions import ExportError
from tests.export.detectors.graphs import Example, digits, in_graph, linear, random, reference, run


def test_is_the_mean_distance_to_the_boundaries() -> None:
    """A boundary is where two logits are the same: the features' distance to it is checked by walking there."""
    example = digits()
    detector = example.training().fit(Fdbd)
    weights, bias = example.training().layers.linear()
    mean = example.fitted_on.astype(np.float64).mean(axis=0)
    x = example.scored[3].astype(np.float64)
    f = weights @ x + bias
    top, distances = f.argmax(), []
    for other in set(range(10)) - {int(top)}:
        normal = weights[top] - weights[other]
        foot = x - (f[top] - f[other]) / (normal @ normal) * normal
        assert weights[top] @ foot + bias[top] == pytest.approx(weights[other] @ foot + bias[other])
        distances.append(np.linalg.norm(x - foot))
    found = detector.reference(f[None], x[None]).item()
    assert found == pytest.approx(np.mean(distances) / np.linalg.norm(x - mean))


def test_two_classes_of_the_same_weights_have_no_boundary() -> None:
    example = random()
    weights, bias = example.training().layers.linear()
    weights[4] = weights[7]
    same = Example(linear(weights, bias), example.fitted_on, example.labels, example.scored)
    detector = same.training().fit(Fdbd)
    found = in_graph(same.model, detector, same.scored)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, reference(same.model, detector, same.scored), rtol=1e-4)


def test_one_class() -> None:
    one = Example(linear(np.ones((1, 4)), [0.0]), np.eye(4, dtype=np.float32), np.zeros(4, np.int64), np.eye(4))
    with pytest.raises(ExportError, match="one class has no decision boundary"):
        one.training().fit(Fdbd)


def test_features_at_the_mean_are_finite() -> None:
    example = digits()
    detector = example.training().fit(Fdbd)
    x = detector.mean.astype(np.float32)[None]
    exact = Fdbd(detector.inverse, x[0].astype(np.float64))
    assert np.isfinite(in_graph(example.model, exact, x)).all()
    assert run(example.model, x)["logits"].shape == (1, 10)
