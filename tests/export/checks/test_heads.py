from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from export.checks.examination import examine, run_graph
from export.checks.heads import layer_of_heads
from export.graph.last_layers import LastLayers
from export.graph.session import session
from tests.export.checks.networks import BIAS, IMAGES, WEIGHTS, D, graph, network, node

SECOND = np.random.default_rng(8).normal(0, 2, (D, 3)).astype(np.float32)
SIDE_BY_SIDE = node("Concat", "features squares", "penultimate", axis=1)
HEADS = (
    node("Mul", "features features", "squares"),
    SIDE_BY_SIDE,
    node("MatMul", "squares second", "other"),
)


@pytest.mark.parametrize(
    ("end", "shares"),
    [
        ((node("Add", "z other", "sum"), node("Mul", "sum half", "logits")), (0.5, 0.5)),
        ((node("Sub", "z other", "logits"),), (1.0, -1.0)),
    ],
    ids=["averaged", "subtracted"],
)
def test_heads_side_by_side_are_one_linear_layer(end: tuple[Any, ...], shares: tuple[float, float]) -> None:
    model = graph(*HEADS, *end, second=SECOND, half=np.float32(0.5))
    examined = examine(network(model), IMAGES)
    assert (examined.relation, examined.warnings) == ("linear", ())
    weights, bias = LastLayers(examined.graph()).linear()
    np.testing.assert_allclose(weights, np.hstack([shares[0] * WEIGHTS, shares[1] * SECOND.T]), atol=1e-4)
    np.testing.assert_allclose(bias, shares[0] * BIAS, atol=1e-3)
    expected, _ = network(model).run(IMAGES)
    np.testing.assert_allclose(run_graph(session(examined.graph()), IMAGES)[0], expected, atol=1e-3)


@pytest.mark.parametrize(
    "end",
    [
        (node("Mul", "z other", "logits"),),
        (node("Add", "z other", "sum"), node("Tanh", "sum", "logits")),
        (node("Max", "z other", "logits"),),
    ],
    ids=["multiplied", "bent", "the larger"],
)
def test_heads_that_are_not_summed_are_no_linear_layer(end: tuple[Any, ...]) -> None:
    model = graph(*HEADS, *end, second=SECOND)
    assert layer_of_heads(model, network(model).run(IMAGES)) is None


@pytest.mark.parametrize(
    "end",
    [
        (node("Div", "z tau", "warm"), node("Add", "warm b", "logits")),
        (node("Mul", "z tau", "warm"), node("Identity", "warm", "logits")),
    ],
    ids=["over a temperature, shifted", "scaled"],
)
def test_scaled_logits_are_one_linear_layer(end: tuple[Any, ...]) -> None:
    model = graph(*end, tau=np.float32(1.7))
    examined = examine(network(model), IMAGES)
    assert examined.relation == "linear"
    expected, penultimate = network(model).run(IMAGES)
    np.testing.assert_allclose(LastLayers(examined.graph())(penultimate), expected, atol=1e-3)


def test_a_convolution_over_the_whole_of_its_input_is_a_linear_layer() -> None:
    weights = np.random.default_rng(2).normal(0, 1, (3, 3, 4, 4)).astype(np.float32)
    model = graph(
        node("Reshape", "scaled planes", "image"),
        node("Conv", "image kernel", "maps"),
        node("Flatten", "maps", "logits", axis=1),
        node("Flatten", "image", "penultimate", axis=1),
        planes=np.array([-1, 3, 4, 4]),
        kernel=weights,
    )
    examined = examine(network(model), IMAGES)
    assert (examined.relation, examined.warnings) == ("linear", ())
    np.testing.assert_allclose(LastLayers(examined.graph()).linear()[0], weights.reshape(3, 48))


def test_activations_of_no_heads() -> None:
    headless = graph(*HEADS[:2], node("Identity", "z", "logits"))
    assert layer_of_heads(headless, network(headless).run(IMAGES)) is None
    few = graph(*HEADS, node("Add", "z other", "logits"), second=SECOND)
    assert layer_of_heads(few, network(few).run(IMAGES[:2])) is None
