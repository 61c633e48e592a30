"""Outputs that are no logits: undone exactly, or refused with the reason."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
from scipy.special import expit, log_softmax, softmax

from export.checks.examination import examine, run_graph
from export.checks.verification import verify
from export.classifier import assemble
from export.detectors.base import Energy
from export.exceptions import ExportError
from export.graph.building import LOGITS
from export.graph.last_layers import LastLayers
from export.graph.logits import redo
from export.graph.session import session
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from tests.export.checks.networks import (
    BIAS,
    HIDDEN,
    IMAGES,
    LABELS,
    SPEC,
    WEIGHTS,
    D,
    features,
    graph,
    logits,
    network,
    node,
)
from tests.runtime.engines.ort.test_cpu import EIGHT_BITS, eight_bits

LAST = {"axes": np.array([1])}
ENDINGS: dict[str, tuple[onnx.ModelProto, tuple[str, ...]]] = {
    "Softmax": (graph(node("Softmax", "z", "logits", axis=-1)), ("softmax",)),
    "LogSoftmax": (graph(node("LogSoftmax", "z", "logits", axis=1)), ("log_softmax",)),
    "Softmax, Cast": (
        graph(node("Softmax", "z", "p", axis=1), node("Cast", "p", "logits", to=onnx.TensorProto.FLOAT)),
        ("softmax",),
    ),
    "Log of Softmax": (graph(node("Softmax", "z", "p", axis=1), node("Log", "p", "logits")), ("log_softmax",)),
    "exponentials over their sum": (
        graph(node("Exp", "z", "e"), node("ReduceSum", "e axes", "s"), node("Div", "e s", "logits"), **LAST),
        ("softmax",),
    ),
    "stable softmax by hand": (
        graph(
            node("ReduceMax", "z axes", "m"),
            node("Sub", "z m", "shifted"),
            node("Exp", "shifted", "e"),
            node("ReduceSum", "e axes", "s"),
            node("Div", "e s", "logits"),
            **LAST,
        ),
        ("softmax",),
    ),
    "less their logsumexp": (
        graph(node("ReduceLogSumExp", "z axes", "l"), node("Sub", "z l", "logits"), **LAST),
        ("log_softmax",),
    ),
    "Softmax of Softmax": (
        graph(node("Softmax", "z", "p", axis=1), node("Softmax", "p", "logits", axis=1)),
        ("softmax", "softmax"),
    ),
    "Sigmoid": (graph(node("Sigmoid", "z", "logits")), ("sigmoid",)),
    "logits": (graph(node("Identity", "z", "logits")), ()),
}


def test_graphs_of_eight_bits_are_computed_as_they_say() -> None:
    images = np.full((1, 2, 2, 1), 255, np.uint8)
    (logits,) = session(eight_bits()).run(["logits"], {"images": images})[0]
    np.testing.assert_allclose(logits, EIGHT_BITS, atol=0.0101)


@pytest.mark.parametrize(("model", "steps"), ENDINGS.values(), ids=ENDINGS)
def test_what_stands_behind_the_logits_is_taken_off(model: onnx.ModelProto, steps: tuple[str, ...]) -> None:
    examined = examine(network(model), IMAGES)
    assert examined.steps == steps
    for found, penultimate in (examined.run(IMAGES), run_graph(session(examined.graph()), IMAGES)):
        np.testing.assert_allclose(found, logits(), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(penultimate, features(), rtol=1e-5, atol=1e-5)
    weights, bias = LastLayers(examined.graph()).linear()
    np.testing.assert_array_equal(weights, WEIGHTS)
    np.testing.assert_array_equal(bias, BIAS)
    assert len(examined.remarks) == len(steps)
    for step, remark in zip(steps, examined.remarks, strict=True):
        assert {"softmax": "the softmax is", "log_softmax": "the log_softmax is", "sigmoid": "sigmoids: they are"}[
            step
        ] in remark


def test_the_energy_of_a_log_softmax_tells_images_apart_once_it_is_off() -> None:
    classifier = network(ENDINGS["LogSoftmax"][0])
    raw = Energy().reference(*classifier.run(IMAGES))
    np.testing.assert_allclose(raw, 0, atol=1e-5)  # so that a threshold on it accepts anything
    energy = Energy().reference(*examine(classifier, IMAGES).run(IMAGES))
    np.testing.assert_allclose(energy, np.log(np.exp(logits()).sum(axis=1)), rtol=1e-4)
    assert energy.std() > 0.5


def test_it_is_verified_against_the_outputs_that_the_network_has() -> None:
    classifier = network(ENDINGS["Softmax"][0])
    examined = examine(classifier, IMAGES)
    model, manifest = assemble(examined, "small", {})
    found = verify(examined, OnnxRuntimeCpu(model.SerializeToString()), manifest, IMAGES)
    assert found.max_logit_difference < 1e-4
    other = network(graph(node("Softmax", "z", "logits", axis=1), bias=BIAS + np.array([0, 0, 1], np.float32)))
    with pytest.raises(ExportError, match="softmax of the exported logits differs from what ONNX Runtime outputs"):
        dataclasses.replace(examined, origin=other).run(IMAGES)


@pytest.mark.parametrize("one_output", ["logit", "sigmoid", "squeezed sigmoid"])
def test_one_output_of_two_classes(one_output: str) -> None:
    end = {
        "logit": [node("Identity", "z", "logits")],
        "sigmoid": [node("Sigmoid", "z", "logits")],
        "squeezed sigmoid": [node("Sigmoid", "z", "p"), node("Squeeze", "p axes", "logits")],
    }[one_output]
    width = 0 if one_output == "squeezed sigmoid" else 1
    model = graph(*end, outputs=width, weights=WEIGHTS[1:2], bias=BIAS[1:2], **LAST)
    examined = examine(network(model, ("no", "yes")), IMAGES)
    assert examined.steps == (("one of two",) if one_output == "logit" else ("sigmoid", "one of two"))
    z = logits()[:, 1]
    for found, _ in (examined.run(IMAGES), run_graph(session(examined.graph()), IMAGES)):
        np.testing.assert_allclose(found, np.column_stack([-z, z]) / 2, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(softmax(found, axis=1)[:, 1], expit(z), rtol=1e-3)
    np.testing.assert_array_equal(examined.behind(SPEC)(IMAGES).argmax(axis=1), z > 0)
    assert 0 < (z > 0).mean() < 1
    weights, bias = LastLayers(examined.graph()).linear()
    np.testing.assert_array_equal(weights, [-WEIGHTS[1] / 2, WEIGHTS[1] / 2])
    np.testing.assert_array_equal(bias, [-BIAS[1] / 2, BIAS[1] / 2])
    shape = next(output for output in examined.graph().graph.output if output.name == LOGITS).type.tensor_type.shape
    assert shape.dim[0].dim_param == "N"
    assert shape.dim[1].dim_value == 2


PROBABILITIES = {
    "one of a softmax": graph(
        node("Softmax", "z", "p", axis=1), node("Gather", "p second", "logits", axis=1), outputs=1, second=np.array([1])
    ),
    "hard sigmoid": graph(node("HardSigmoid", "z", "logits"), outputs=1, weights=WEIGHTS[1:2], bias=BIAS[1:2]),
}


@pytest.mark.parametrize("model", PROBABILITIES.values(), ids=PROBABILITIES)
def test_one_probability_is_no_logit(model: onnx.ModelProto) -> None:
    classifier = network(model, ("no", "yes"))
    probabilities, _ = classifier.run(IMAGES)
    assert 0 < (probabilities > 0.5).mean() < 1  # as a logit, each would be of the second class
    with pytest.raises(ExportError, match="within 0 and 1 for all of 40 images"):
        examine(classifier, IMAGES)
    examine(classifier, IMAGES[:7])  # too few to tell


def test_a_logit_within_0_and_1_behind_a_sigmoid_is_one() -> None:
    small = graph(
        node("Sigmoid", "z", "logits"), outputs=1, weights=WEIGHTS[1:2] / 100, bias=np.array([0.5], np.float32)
    )
    examined = examine(network(small, ("no", "yes")), IMAGES)
    assert examined.steps == ("sigmoid", "one of two")
    z = features() @ WEIGHTS[1] / 100 + 0.5
    assert z.min() > 0
    assert z.max() < 1
    np.testing.assert_allclose(examined.run(IMAGES)[0], np.column_stack([-z, z]) / 2, rtol=1e-4, atol=1e-4)


def test_one_label_of_a_multilabel_model_keeps_its_one_logit() -> None:
    model = graph(node("Sigmoid", "z", "logits"), outputs=1, weights=WEIGHTS[:1], bias=BIAS[:1])
    examined = examine(network(model, ("cat",), "multilabel"), IMAGES)
    np.testing.assert_allclose(examined.run(IMAGES)[0], logits()[:, :1], rtol=1e-4, atol=1e-4)
    with pytest.raises(ExportError, match=r"for 2 labels, found .40, 1."):  # of which it may have both
        examine(network(model, ("cat", "dog"), "multilabel"), IMAGES)


MEAN_OF_TWO = graph(
    node("Softmax", "z", "p", axis=1),
    node("Neg", "z", "n"),
    node("Softmax", "n", "q", axis=1),
    node("Mean", "p q", "logits"),
)
NORMALISED = graph(node("LpNormalization", "z", "logits", axis=1, p=2))
REFUSED: dict[str, tuple[onnx.ModelProto, tuple[str, ...], str]] = {
    "an ensemble's mean": (MEAN_OF_TWO, LABELS, "outputs are probabilities and no tensor before them is their logits"),
    "an embedding": (NORMALISED, LABELS, "an embedding, normalised, is no logits"),
    "another width": (
        graph(node("Identity", "z", "logits")),
        ("a", "b"),
        "for 2 labels, found .40, 3.: other labels, or",
    ),
    "one output and one label": (
        graph(node("Identity", "z", "logits"), outputs=1, weights=WEIGHTS[:1], bias=BIAS[:1]),
        ("cat",),
        "leave nothing to tell apart",
    ),
    "constant": (graph(node("Sub", "z z", "logits")), LABELS, "the logits of 40 images are all the same"),
    "one logit for all": (
        graph(node("Sub", "z b", "logits"), weights=WEIGHTS[[0, 0, 0]]),
        LABELS,
        "every class has",
    ),
    "not finite": (
        graph(node("Div", "z zero", "logits"), zero=np.float32(0)),
        LABELS,
        "40 of 40 images have logits that",
    ),
    "swapped": (
        graph(
            node("Gemm", "features square", "logits"),
            node("Gemm", "logits square", "penultimate"),
            square=np.random.default_rng(0).normal(0, 1, (6, 6)).astype(np.float32),
            outputs=6,
        ),
        tuple("abcdef"),
        "found .penultimate, logits.",
    ),
}


@pytest.mark.parametrize(("model", "labels", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_logits_is_refused(model: onnx.ModelProto, labels: tuple[str, ...], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        examine(network(model, labels), IMAGES)


def test_logits_that_may_be_a_mistake_are_warned_of() -> None:
    small = graph(node("Mul", "z tiny", "logits"), tiny=np.float32(1e-6))
    assert "divided by a large temperature" in examine(network(small), IMAGES).warnings[0]
    clipped = graph(node("Relu", "z", "logits"))
    assert "logits behind a ReLU" in examine(network(clipped), IMAGES).warnings[0]
    half = graph(
        node("Sigmoid", "z", "p"), node("Mul", "p p", "logits")
    )  # between 0 and 1, and a function of no logits that is known
    assert "if they are probabilities" in examine(network(half), IMAGES).warnings[0]
    percent = graph(node("Softmax", "z", "p", axis=1), node("Mul", "p hundred", "logits"), hundred=np.float32(100))
    assert "sum to 100: they look like probabilities" in examine(network(percent), IMAGES).warnings[0]
    assert examine(network(ENDINGS["logits"][0]), IMAGES).warnings == ()


# --- another head's outputs as penultimate activations

OTHER = np.random.default_rng(1).normal(0, 1, (6, 3)).astype(np.float32)


def test_another_heads_logits_are_no_penultimate_activations() -> None:
    model = graph(
        node("Identity", "z", "logits"),
        node("MatMul", "features other", "n"),
        node("Relu", "n", "penultimate"),
        other=OTHER,
    )
    examined = examine(network(model), IMAGES)
    assert examined.relation == "unrelated"
    (warning,) = examined.warnings
    assert "no function of the model's second output" in warning
    with pytest.raises(ExportError, match="--score nan: the logits are no function"):
        examined.check_scores(["energy", "nan"])
    examined.check_scores(["energy"])
    assert assemble(examined, "other", {})[1].scores == ("msp", "max_logit", "energy", "joint_energy")
    with pytest.raises(ExportError):
        LastLayers(examined.graph())


def test_too_few_images_for_as_many_activations_leave_it_unknown() -> None:
    wide = np.random.default_rng(2).normal(0, 1, (6, 30)).astype(np.float32)
    model = graph(
        node("Identity", "z", "logits"),
        node("MatMul", "features wide", "n"),
        node("Relu", "n", "penultimate"),
        wide=wide,
    )
    examined = examine(network(model), IMAGES)
    assert examined.relation == "unknown"
    assert "as another head's would not" in examined.warnings[0]


def test_logits_beside_their_activations_are_made_of_them_where_the_weights_are_found() -> None:
    """A 1x1 convolution before the pooling: the pooled features are penultimate, but the graph pools the logits."""
    model = graph(
        node("Reshape", "features square", "map"),
        node("Conv", "map kernel", "maps"),
        node("ReduceMean", "maps space", "logits", keepdims=0),
        node("ReduceMean", "map space", "penultimate", keepdims=0),
        square=np.array([-1, 2, 3, 1]),
        kernel=OTHER[:3, :2].reshape(3, 2, 1, 1).copy(),
        space=np.array([2, 3]),
    )
    examined = examine(network(model), IMAGES)
    assert examined.relation == "linear"
    weights, bias = LastLayers(examined.graph()).linear()
    np.testing.assert_allclose(weights, OTHER[:3, :2])
    np.testing.assert_allclose(bias, 0, atol=1e-5)
    pooled = features().reshape(-1, 2, 3).mean(axis=2)
    np.testing.assert_allclose(run_graph(session(examined.graph()), IMAGES)[0], pooled @ OTHER[:3, :2].T, atol=1e-5)


@pytest.mark.parametrize(("scale", "shift"), [(0.3, 0.0), (1, 0.5), (40, 0.5)])
def test_and_so_in_half_precision(scale: float, shift: float) -> None:
    """Where logits are rounded to 11 bits, by more than a bias of 0 is."""
    kernel = (scale * OTHER[:3, :2]).reshape(3, 2, 1, 1).astype(np.float16)
    bias = np.array([shift, -shift, 2 * shift], np.float16)
    model = graph(
        node("Reshape", "features square", "map"),
        node("Cast", "map", "half", to=onnx.TensorProto.FLOAT16),
        node("Conv", "half kernel shift", "maps"),
        node("ReduceMean", "maps space", "rounded", keepdims=0),
        node("Flatten", "rounded", "flattened"),  # in half precision, and so what comes to it
        node("Cast", "flattened", "logits", to=onnx.TensorProto.FLOAT),
        node("ReduceMean", "half space", "pooled", keepdims=0),
        node("Flatten", "pooled", "features_half"),
        node("Cast", "features_half", "penultimate", to=onnx.TensorProto.FLOAT),
        **{"square": np.array([-1, 2, 3, 1]), "kernel": kernel, "shift": bias, "space": np.array([2, 3])},
    )
    examined = examine(network(model), IMAGES)
    assert examined.relation == "linear"
    np.testing.assert_allclose(LastLayers(examined.graph()).linear()[1], bias, atol=1e-3 * scale)


# Images of larger features and logits than any of IMAGES.
OUTSIDE = np.stack([255 * (HIDDEN @ weights > 0).reshape(4, 4, 3) for weights in (*WEIGHTS, np.ones(D))]).astype(
    np.uint8
)
CAP = np.float32(1.01 * np.abs(logits()).max())
SUM = np.float32(1.01 * features().sum(axis=1).max())
GATE = (node("ReduceSum", "features axes", "s"), node("Less", "s most", "g"), node("Cast", "g", "gate", to=1))


@pytest.mark.parametrize(
    ("end", "steps"),
    [
        ((node("Clip", "z low high", "logits"),), ()),
        ((node("Clip", "z low high", "c"), node("Softmax", "c", "logits", axis=1)), ("softmax",)),
        ((node("Mul", "z times", "m"), node("Clip", "m -8 8", "c"), node("Sigmoid", "c", "logits")), ("sigmoid",)),
        ((*GATE, node("Mul", "z gate", "logits")), ()),
        ((*GATE, node("Mul", "z gate", "c"), node("LogSoftmax", "c", "logits", axis=1)), ("log_softmax",)),
        ((*GATE, node("Mul", "z gate", "c"), node("Sigmoid", "c", "logits")), ("sigmoid",)),
        ((node("Clip", "features none highest", "penultimate"), node("Identity", "z", "logits")), ()),
    ],
    ids=[
        "a clamp",
        "a clamp, Softmax",
        "a clamp, Sigmoid",
        "a guard",
        "a guard, LogSoftmax",
        "a guard, Sigmoid",
        "activations clamped",
    ],
)
def test_what_does_nothing_on_the_images_at_hand_stays(end: tuple[onnx.NodeProto, ...], steps: tuple[str, ...]) -> None:
    """Behind the last layer, and before the activations that are beside the logits: other images come."""
    highest = np.float32(1.01 * features().max())
    constants = {"low": -CAP, "high": CAP, "none": np.float32(0), "highest": highest, "most": SUM}
    constants |= {"times": 8 / CAP, "-8": np.float32(-8), "8": np.float32(8)}  # a sigmoid of 0.9997
    model = graph(*end, **LAST, **constants)
    own = network(model)
    examined = examine(own, IMAGES)
    assert examined.steps == steps
    outside = run_graph(session(examined.graph()), OUTSIDE)[0]
    np.testing.assert_allclose(redo(steps, outside.astype(np.float64)), own.run(OUTSIDE)[0], atol=1e-5)
    assert "penultimate" in end[0].output or not np.allclose(outside, logits(OUTSIDE), atol=1e-2)
    assert examined.relation != "linear"


def test_values_that_a_node_refuses_prove_nothing() -> None:
    """A table that is as long as these features ask for: thousandfold ones are beyond it."""
    model = graph(
        node("Cast", "features", "rounded", to=onnx.TensorProto.INT64),
        node("Gather", "table rounded", "read"),
        node("ReduceSum", "read axes", "added"),
        node("Add", "z added", "c"),
        node("Softmax", "c", "logits", axis=1),
        table=np.arange(1 + int(features().max()), dtype=np.float32),
        **LAST,
    )
    examined = examine(network(model), IMAGES)
    assert examined.steps == ("softmax",)
    np.testing.assert_allclose(
        softmax(run_graph(session(examined.graph()), IMAGES)[0], axis=1), network(model).run(IMAGES)[0], atol=1e-6
    )


def test_affine_by_other_weights_is_found_by_least_squares() -> None:
    model = graph(node("Identity", "z", "logits"), node("Mul", "features scale", "penultimate"))
    assert examine(network(model), IMAGES).relation == "affine"


def test_no_plain_linear_layer_is_said() -> None:
    model = graph(node("Tanh", "z", "t"), node("Mul", "t ten", "logits"), ten=np.float32(10))
    examined = examine(network(model), IMAGES)
    assert examined.relation == "layers"
    assert "gradnorm, nci, fdbd, dice, vim can't be fitted" in examined.remarks[0]


def test_log_softmax_values_are_those_of_scipy() -> None:
    """The graphs of this file are what their names say."""
    found, _ = network(ENDINGS["less their logsumexp"][0]).run(IMAGES)
    np.testing.assert_allclose(found, log_softmax(logits(), axis=1), rtol=1e-3, atol=1e-4)
