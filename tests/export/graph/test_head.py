"""The score head in ONNX Runtime, against the float64 reference."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from export.detectors.base import BASE, base_scores
from export.detectors.columns import attach
from export.detectors.interface import Detector
from export.graph import head

Array = npt.NDArray[np.float32]

KEYS = ("msp", "max_logit", "energy", "joint_energy", "nan", "feature_norm")
ENERGY = KEYS.index("energy")


def attached(classes: int, features: int, temperature: float = 1.0) -> onnx.ModelProto:
    """A graph that is nothing but the head; logits and penultimate are its inputs."""
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ("N", size))
        for name, size in (("logits", classes), ("penultimate", features))
    ]
    graph = helper.make_graph([], "head", inputs, [])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    attach(model, at(temperature))
    onnx.checker.check_model(model, full_check=True)
    return model


def at(temperature: float) -> dict[str, Detector]:
    """The base scores, the energy at a temperature."""
    return base_scores({"energy": {"temperature": temperature}})


def references(logits: Array, penultimate: Array, temperature: float = 1.0) -> npt.NDArray[np.float64]:
    """The columns in float64."""
    detectors = at(temperature).values()
    return np.stack([detector.reference(logits, penultimate) for detector in detectors], axis=1)


def run(model: onnx.ModelProto, logits: npt.ArrayLike, penultimate: npt.ArrayLike, **feeds: Any) -> tuple[Array, Any]:
    """Scores and accept."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    inputs = {"logits": logits, "penultimate": penultimate, **feeds}
    found, accept = session.run(["scores", "accept"], {k: np.asarray(v, np.float32) for k, v in inputs.items()})
    return found, accept


def check(logits: npt.ArrayLike, penultimate: npt.ArrayLike, temperature: float = 1.0) -> Array:
    """Every score is within 1e-5, relative, of its reference; returns the scores."""
    logits, penultimate = np.asarray(logits, np.float32), np.asarray(penultimate, np.float32)
    found, _ = run(attached(logits.shape[1], penultimate.shape[1], temperature), logits, penultimate)
    reference = references(logits, penultimate, temperature)
    assert found.shape == reference.shape
    for column, key in enumerate(KEYS):
        np.testing.assert_allclose(found[:, column], reference[:, column], rtol=1e-5, err_msg=key)
    return found


def features(rng: np.random.Generator, count: int, size: int = 16) -> Array:
    """As after a ReLU: half are zero."""
    return np.maximum(rng.normal(0, 1, (count, size)), 0).astype(np.float32)


# --- scores


def test_the_columns_are_the_contracts() -> None:
    assert tuple(BASE) == KEYS


@pytest.mark.parametrize("temperature", [0.1, 1.0, 10.0])
def test_random_logits(temperature: float, rng: np.random.Generator) -> None:
    check(rng.normal(3, 4, (500, 10)), features(rng, 500), temperature)


@pytest.mark.parametrize("temperature", [0.1, 1.0, 10.0])
def test_large_logits(temperature: float, rng: np.random.Generator) -> None:
    check(rng.choice([-1e4, 1e4, 0.0], (200, 10)), features(rng, 200), temperature)


@pytest.mark.parametrize("value", [-1e4, -50.0, 1e4])
def test_equal_logits(value: float, rng: np.random.Generator) -> None:
    found = check(np.full((2, 4), value), features(rng, 2))
    np.testing.assert_allclose(found[:, 0], 0.25, rtol=1e-6)


def test_many_classes_and_features(rng: np.random.Generator) -> None:
    check(rng.normal(0, 5, (20, 1000)), features(rng, 20, 2048), temperature=0.5)


def test_one_class_and_one_feature() -> None:
    found = check([[2.0]], [[3.0]])
    np.testing.assert_allclose(found[0], [1, 2, 2, math.log(1 + math.exp(2)), 3, 3], rtol=1e-6)


@pytest.mark.parametrize("value", [-5.0, -10.0, -16.0, -17.0, -20.0, -50.0, -80.0])
def test_joint_energy_of_improbable_labels_keeps_its_precision(value: float) -> None:
    """sum log(1 + e^f) is near K e^f, where 1 + e^f is 1 in float32."""
    found, _ = run(attached(5, 2), np.full((1, 5), value), np.ones((1, 2)))
    assert found[0, 3] == pytest.approx(5 * math.log1p(math.exp(value)), rel=1e-5)


def test_joint_energy_of_logits_between_minus_20_and_20() -> None:
    check(np.linspace(-20, 20, 4001)[:, None], np.ones((4001, 1)))


def test_energy_where_it_is_near_zero(rng: np.random.Generator) -> None:
    """Maximum and logarithm cancel; what is left is exact to the rounding of the logits."""
    logits = (rng.normal(0, 1, (200, 10)) - 2.8).astype(np.float32)
    found, _ = run(attached(10, 2), logits, np.ones((200, 2)))
    reference = np.log(np.exp(logits.astype(np.float64)).sum(axis=1))
    assert np.abs(reference).min() < 0.01
    np.testing.assert_allclose(found[:, ENERGY], reference, atol=1e-6)


def test_features_that_are_all_zero() -> None:
    found = check(np.zeros((3, 4)), np.zeros((3, 16)))
    assert (found[:, 4:] == 0).all()


def test_features_of_which_none_is_positive(rng: np.random.Generator) -> None:
    negative = -features(rng, 10)
    found = check(rng.normal(0, 1, (10, 4)) + 3, negative)
    assert (found[:, 4] == 0).all()
    np.testing.assert_allclose(found[:, 5], -negative.sum(axis=1, dtype=np.float64), rtol=1e-6)


def test_features_of_both_signs(rng: np.random.Generator) -> None:
    check(rng.normal(3, 1, (50, 4)), rng.normal(0, 1, (50, 16)))


def test_features_that_are_tiny_or_large(rng: np.random.Generator) -> None:
    check(np.ones((2, 4)), features(rng, 2) * [[1e-30], [1e4]])


def test_nan_of_a_single_active_feature() -> None:
    found = check([[0.0, 1.0]], [[0.0, 7.0, 0.0]])
    assert found[0, 4] == 7


def test_any_number_of_images(rng: np.random.Generator) -> None:
    for count in (1, 2, 7, 130):
        check(rng.normal(3, 4, (count, 10)), features(rng, count))


def test_no_images() -> None:
    found, accept = run(attached(3, 4), np.zeros((0, 3)), np.zeros((0, 4)))
    assert (found.shape, accept.shape) == ((0, 6), (0,))


def test_each_image_is_scored_by_itself(rng: np.random.Generator) -> None:
    logits, penultimate = rng.normal(0, 4, (5, 10)), features(rng, 5)
    model = attached(10, 16)
    together, _ = run(model, logits, penultimate)
    alone, _ = run(model, logits[3:4], penultimate[3:4])
    np.testing.assert_allclose(together[3:4], alone, rtol=1e-6)


# --- the gate


@pytest.mark.parametrize("column", range(len(KEYS)), ids=KEYS)
def test_accepts_at_the_threshold_and_above(column: int, rng: np.random.Generator) -> None:
    logits, penultimate = rng.normal(3, 4, (99, 10)), features(rng, 99)
    model = attached(10, 16)
    before, _ = run(model, logits, penultimate)
    threshold = np.sort(before[:, column])[40]  # the score of one of the images
    head.set_gate(model, column, float(threshold))
    found, accept = run(model, logits, penultimate)
    assert accept.dtype == np.bool_
    np.testing.assert_array_equal(accept, found[:, column] >= threshold)
    assert accept.sum() >= 59


def test_rejects_everything_until_a_threshold_is_set(rng: np.random.Generator) -> None:
    _, accept = run(attached(10, 16), rng.normal(3, 4, (50, 10)), features(rng, 50))
    assert not accept.any()


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [(-math.inf, True), (2.0, True), (2.1, False), (math.inf, False), (math.nan, False)],
)
def test_the_caller_may_override_the_threshold(threshold: float, expected: bool) -> None:
    model = attached(2, 2)
    head.set_gate(model, KEYS.index("max_logit"), 1.5)
    _, accept = run(model, [[2.0, 1.0]], [[1.0, 1.0]], threshold=threshold)
    assert accept.tolist() == [expected]


def test_the_gate_can_be_set_again() -> None:
    model = attached(2, 2)
    head.set_gate(model, KEYS.index("feature_norm"), 100.0)
    head.set_gate(model, KEYS.index("max_logit"), 1.5)
    _, accept = run(model, [[2.0, 1.0], [1.0, 1.0]], [[1.0, 1.0]] * 2)
    assert accept.tolist() == [True, False]
    assert len({tensor.name for tensor in model.graph.initializer}) == len(model.graph.initializer)


@pytest.mark.parametrize(
    ("tensor", "value"),
    [
        ("logits", math.nan),
        ("logits", math.inf),
        ("penultimate", math.nan),
        ("penultimate", math.inf),
        ("penultimate", -math.inf),
    ],
)
def test_a_value_that_is_not_finite_rejects_whatever_the_score(tensor: str, value: float) -> None:
    inputs = {"logits": np.array([[3.0, 1.0, 2.0]] * 4), "penultimate": np.array([[1.0, 2.0, 3.0]] * 4)}
    for place in range(3):
        inputs[tensor][place, place] = value
    model = attached(3, 3)
    for column in range(len(KEYS)):
        head.set_gate(model, column, -1e30)
        _, accept = run(model, **inputs)
        assert accept.tolist() == [False, False, False, True]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("tensor", ["logits", "penultimate"])
def test_a_row_without_finite_values_rejects(value: float, tensor: str) -> None:
    inputs = {"logits": np.ones((1, 3)), "penultimate": np.ones((1, 3))}
    inputs[tensor][:] = value
    model = attached(3, 3)
    for column in range(len(KEYS)):
        head.set_gate(model, column, -math.inf)
        assert not run(model, **inputs)[1].any()


# --- thresholds by predicted class


def by_class() -> onnx.ModelProto:
    """Accepts by max_logit: from 2 on for class 0, from 5 for class 1, from -1 for class 2."""
    model = attached(3, 2)
    head.set_gate(model, KEYS.index("max_logit"), 2.0, np.array([2, 5, -1], np.float32))
    onnx.checker.check_model(model, full_check=True)
    return model


def test_every_image_meets_the_threshold_of_its_predicted_class(rng: np.random.Generator) -> None:
    logits = rng.integers(-3, 9, (500, 3)).astype(np.float32)  # with ties of the largest logit
    _, accept = run(by_class(), logits, np.ones((500, 2)))
    np.testing.assert_array_equal(accept, logits.max(axis=1) >= np.array([2, 5, -1])[logits.argmax(axis=1)])


def test_a_number_overrides_the_thresholds_of_all_classes(rng: np.random.Generator) -> None:
    logits = rng.integers(-3, 9, (200, 3)).astype(np.float32)
    _, accept = run(by_class(), logits, np.ones((200, 2)), threshold=4.0)
    np.testing.assert_array_equal(accept, logits.max(axis=1) >= 4)


def test_other_class_thresholds_override_them(rng: np.random.Generator) -> None:
    logits = rng.integers(-3, 9, (200, 3)).astype(np.float32)
    _, accept = run(by_class(), logits, np.ones((200, 2)), class_thresholds=[0.0, math.inf, math.nan])
    np.testing.assert_array_equal(accept, (logits.argmax(axis=1) == 0) & (logits.max(axis=1) >= 0))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_not_finite_reject_by_class_too(value: float) -> None:
    model = attached(3, 2)
    head.set_gate(model, KEYS.index("max_logit"), 0.0, np.full(3, -1e30, np.float32))
    _, accept = run(model, [[value, 1, 1], [1, value, 1], [1, 1, 1]], np.ones((3, 2)))
    assert accept.tolist() == [False, False, True]


def test_a_gate_without_classes_may_follow() -> None:
    model = by_class()
    head.set_gate(model, KEYS.index("max_logit"), 3.0)
    assert [value.name for value in model.graph.input] == ["logits", "penultimate", "threshold"]
    assert "ArgMax" not in {node.op_type for node in model.graph.node}
    _, accept = run(model, [[2.5, 0, 0], [0, 3, 0]], np.ones((2, 2)))
    assert accept.tolist() == [False, True]


# --- a second threshold


def selective() -> onnx.ModelProto:
    """Accepts by max_logit from 2 on and feature_norm from 5."""
    model = attached(3, 2)
    head.set_gate(model, KEYS.index("max_logit"), 2.0, selection=(KEYS.index("feature_norm"), 5.0))
    onnx.checker.check_model(model, full_check=True)
    return model


def test_an_accepted_image_reaches_both_thresholds_and_each_may_be_moved(rng: np.random.Generator) -> None:
    logits = rng.integers(-3, 9, (500, 3)).astype(np.float32)
    penultimate = rng.integers(0, 6, (500, 2)).astype(np.float32)
    best, norm = logits.max(axis=1), penultimate.sum(axis=1)
    for feeds, expected in (
        ({}, (best >= 2) & (norm >= 5)),
        ({"threshold": 4.0}, (best >= 4) & (norm >= 5)),
        ({"selection_threshold": 7.0}, (best >= 2) & (norm >= 7)),
        ({"threshold": 0.0, "selection_threshold": -math.inf}, best >= 0),
        ({"selection_threshold": math.nan}, np.zeros(500, np.bool_)),
    ):
        _, accept = run(selective(), logits, penultimate, **feeds)
        np.testing.assert_array_equal(accept, expected)


def test_a_second_threshold_goes_with_those_by_class(rng: np.random.Generator) -> None:
    model = attached(3, 2)
    own = np.array([2, 5, -1], np.float32)
    head.set_gate(model, KEYS.index("max_logit"), 2.0, own, (KEYS.index("feature_norm"), 5.0))
    logits = rng.integers(-3, 9, (500, 3)).astype(np.float32)
    penultimate = rng.integers(0, 6, (500, 2)).astype(np.float32)
    _, accept = run(model, logits, penultimate)
    known = logits.max(axis=1) >= own[logits.argmax(axis=1)]
    np.testing.assert_array_equal(accept, known & (penultimate.sum(axis=1) >= 5))


def test_a_gate_without_a_second_threshold_may_follow() -> None:
    model = selective()
    assert [value.name for value in model.graph.input][2:] == ["threshold", "selection_threshold"]
    head.set_gate(model, KEYS.index("max_logit"), 3.0)
    assert [value.name for value in model.graph.input][2:] == ["threshold"]
    assert "selection_column" not in {tensor.name for tensor in model.graph.initializer}


# --- the graph


def test_operators_are_of_the_standard_domain() -> None:
    model = attached(3, 4)
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    assert not model.functions


def test_the_threshold_is_an_input_with_a_default() -> None:
    session = ort.InferenceSession(attached(3, 4).SerializeToString(), providers=["CPUExecutionProvider"])
    assert [item.name for item in session.get_overridable_initializers()] == ["threshold"]
    assert {item.name for item in session.get_inputs()} == {"logits", "penultimate"}


def test_shared_operations_are_computed_once() -> None:
    """One softmax serves msp and energy, one absolute sum nan and feature_norm."""
    kinds = [node.op_type for node in attached(3, 4).graph.node]
    assert kinds.count("Softmax") + kinds.count("Exp") <= 2
    assert kinds.count("ReduceL1") == 2  # of the activations, and of the scores for the check that all are finite
