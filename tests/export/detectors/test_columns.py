"""Columns of ``scores`` added, replaced, reordered and taken away; and how they are compared with their references."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from export.detectors.base import Energy, FeatureNorm, MaxLogit
from export.detectors.columns import attach, verify
from export.graph import head
from tests.export.graph.test_head import KEYS, attached, features, references, run


@pytest.mark.parametrize("temperature", [0.05, 1.0, 20.0])
def test_the_temperature_can_be_set_again(temperature: float, rng: np.random.Generator) -> None:
    model = attached(10, 16, temperature=0.5)
    attach(model, {"energy": Energy(temperature)}, KEYS, KEYS)
    onnx.checker.check_model(model, full_check=True)
    logits, penultimate = rng.normal(3, 4, (50, 10)).astype(np.float32), features(rng, 50)
    found, accept = run(model, logits, penultimate)
    reference = references(logits, penultimate, temperature)
    np.testing.assert_allclose(found, reference, rtol=1e-5)
    assert not accept.any()  # a threshold of the old scores would mean nothing


def test_nothing_of_an_earlier_temperature_stays() -> None:
    model = attached(3, 4)
    sizes = []
    for temperature in (0.1, 0.2, 0.3):
        attach(model, {"energy": Energy(temperature)}, KEYS, KEYS)
        sizes.append((len(model.graph.node), len(model.graph.initializer), len(model.graph.input)))
    assert sizes == [sizes[0]] * 3


def test_columns_may_be_taken_away_and_put_in_another_order(rng: np.random.Generator) -> None:
    model = attached(3, 4)
    assert len(head.columns(model)) == len(KEYS)
    assert attach(model, {}, KEYS, ("feature_norm", "msp")) == ("feature_norm", "msp")
    onnx.checker.check_model(model, full_check=True)
    logits, penultimate = rng.normal(0, 1, (20, 3)), features(rng, 20, 4)
    found, _ = run(model, logits, penultimate)
    assert model.graph.output[0].type.tensor_type.shape.dim[1].dim_value == 2
    np.testing.assert_allclose(found, references(logits, penultimate)[:, [5, 0]], rtol=1e-5)


def test_a_new_column_comes_last_and_one_of_its_name_goes(rng: np.random.Generator) -> None:
    model = attached(3, 4)
    names = attach(model, {"msp": MaxLogit(), "other": FeatureNorm()}, KEYS)
    assert names == (*KEYS[1:], "msp", "other")
    logits, penultimate = rng.normal(0, 1, (20, 3)), features(rng, 20, 4)
    found, accept = run(model, logits, penultimate)
    np.testing.assert_allclose(found, references(logits, penultimate)[:, [1, 2, 3, 4, 5, 1, 5]], rtol=1e-5)
    assert not accept.any()


def test_differences_are_relative_to_the_reference_or_its_median() -> None:
    logits = np.array([[1.0, 0.0], [4.0, 0.0], [0.5, 0.0]])
    scores = np.array([[1.0], [4.4], [0.6]], np.float32)
    expected, found = verify({"max_logit": MaxLogit()}, scores, logits, logits)
    assert expected.tolist() == [[1], [4], [0.5]]
    assert found == {"max_logit": pytest.approx(0.1)}  # 0.4 of 4, and 0.1 of the median 1


def test_a_column_that_is_not_finite_differs() -> None:
    logits = np.ones((2, 3))
    scores = np.array([[1, 1], [1, np.nan]], np.float32)
    _, found = verify({"max_logit": MaxLogit(), "energy": Energy()}, scores, logits, logits)
    assert found["max_logit"] == 0
    assert not found["energy"] <= 1e3
