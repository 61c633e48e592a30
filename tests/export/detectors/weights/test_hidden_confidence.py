"""The hidden classifier's confidence, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper, numpy_helper

from export.detectors.weights.hidden_confidence import HiddenConfidence
from export.exceptions import NotApplicable
from export.graph.last_layers import LastLayers
from tests.export.detectors.graphs import Example, cosine, linear, random


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


def test_of_a_projection_head_the_product_of_its_layers_counts(rng: np.random.Generator) -> None:
    """NAN eq. 2: C = W U, whatever normalises the embedding and the rows of W."""
    embedding, prototypes = rng.normal(0, 1, (12, 32)), rng.normal(0, 1, (10, 12))
    example = random()
    training = Example(cosine(embedding, prototypes), example.fitted_on, example.labels, example.scored).training()
    signs = np.where(prototypes / np.linalg.norm(prototypes, axis=1, keepdims=True) @ embedding > 0, 1, -1)
    np.testing.assert_array_equal(training.fit(HiddenConfidence).signs, signs)


def test_layers_with_a_rectifier_between_have_no_product() -> None:
    nodes = [
        helper.make_node("Relu", ["images"], ["penultimate"]),
        helper.make_node("MatMul", ["penultimate", "u"], ["x"]),
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("MatMul", ["y", "w"], ["logits"]),
    ]
    constants = [numpy_helper.from_array(np.ones((3, 3), np.float32), name) for name in "uw"]
    graph = helper.make_graph(
        nodes,
        "rectified",
        [helper.make_tensor_value_info("images", 1, ["N", 3])],
        [helper.make_tensor_value_info(name, 1, ["N", 3]) for name in ("logits", "penultimate")],
        constants,
    )
    with pytest.raises(NotApplicable, match="no product of linear layers"):
        LastLayers(helper.make_model(graph)).composed()
