"""The layers from penultimate to logits: recognised, run in float64, and run again in the graph."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

from export.exceptions import ExportError
from export.from_torch.network.backbone import Backbone, to_onnx
from export.graph.building import Graph
from export.graph.last_layers import LastLayers
from tests.export import factories
from tests.small import SPEC, calibration_images, classifier

W = np.random.default_rng(0).normal(0, 1, (3, 5)).astype(np.float32)
B = np.array([0.5, -1, 2], np.float32)


def graph(*nodes: onnx.NodeProto, **constants: object) -> onnx.ModelProto:
    """From an input ``x`` [N, 5]; the nodes make penultimate and logits of it."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N", 5))]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ("N", size))
        for name, size in (("penultimate", 5), ("logits", 3))
    ]
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    body = helper.make_graph(list(nodes), "graph", inputs, outputs, initializers)
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def node(kind: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), [output], **attributes)


RELU = node("Relu", "x", "penultimate")
LINEAR = {
    "Gemm": (graph(RELU, node("Gemm", "penultimate w b", "logits", transB=1), w=W, b=B), W, B),
    "Gemm without bias": (graph(RELU, node("Gemm", "penultimate w", "logits", transB=1), w=W), W, 0),
    "Gemm of the transposed": (graph(RELU, node("Gemm", "penultimate w b", "logits"), w=W.T.copy(), b=B), W, B),
    "Gemm with factors": (
        graph(RELU, node("Gemm", "penultimate w b", "logits", transB=1, alpha=0.5, beta=2.0), w=W, b=B),
        0.5 * W,
        2 * B,
    ),
    "MatMul": (graph(RELU, node("MatMul", "penultimate w", "logits"), w=W.T.copy()), W, 0),
    "MatMul and Add": (
        graph(RELU, node("MatMul", "penultimate w", "y"), node("Add", "y b", "logits"), w=W.T.copy(), b=B),
        W,
        B,
    ),
    "Add and MatMul": (
        graph(RELU, node("MatMul", "penultimate w", "y"), node("Add", "b y", "logits"), w=W.T.copy(), b=B[None]),
        W,
        B,
    ),
    "other names": (
        graph(
            node("Relu", "x", "r"),
            node("Identity", "r", "penultimate"),
            node("Gemm", "r w b", "y", transB=1),
            node("Identity", "y", "logits"),
            w=W,
            b=B,
        ),
        W,
        B,
    ),
}
HALF = graph(
    node("Cast", "x", "half", to=TensorProto.FLOAT16),
    node("Cast", "half", "penultimate", to=TensorProto.FLOAT),
    node("Gemm", "half w b", "y", transB=1),
    node("Cast", "y", "logits", to=TensorProto.FLOAT),
    w=W.astype(np.float16),
    b=B.astype(np.float16),
)


@pytest.mark.parametrize(("model", "weights", "bias"), LINEAR.values(), ids=LINEAR)
def test_a_plain_linear_layer(model: onnx.ModelProto, weights: object, bias: object) -> None:
    found = LastLayers(model).linear()
    np.testing.assert_array_equal(found[0], weights)
    np.testing.assert_array_equal(found[1], np.broadcast_to(bias, 3))
    assert {array.dtype for array in found} == {np.dtype(np.float64)}


def copied(model: onnx.ModelProto, x: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> tuple[object, object]:
    """Logits, and those of a copy of the last layers that takes half of each activation."""
    model = onnx.load_from_string(model.SerializeToString())
    g = Graph(model)
    logits = LastLayers(model).append(g, g.op("Mul", "penultimate", 0.5))
    g.declare_output(g.op("Identity", logits, output="again"), TensorProto.FLOAT, None)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return tuple(session.run(["penultimate", "logits", "again"], {session.get_inputs()[0].name: x}))


@pytest.mark.parametrize(("model", "weights", "bias"), LINEAR.values(), ids=LINEAR)
def test_on_other_activations(model: onnx.ModelProto, weights: object, bias: object, rng: np.random.Generator) -> None:
    penultimate, logits, again = copied(model, rng.normal(0, 1, (7, 5)).astype(np.float32))
    layers = LastLayers(model)
    np.testing.assert_allclose(layers(penultimate), penultimate @ np.asarray(weights).T + bias, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(logits, layers(penultimate), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(again, layers(0.5 * penultimate), rtol=1e-5, atol=1e-6)


def test_half_precision(rng: np.random.Generator) -> None:
    penultimate, _, again = copied(HALF, rng.normal(0, 1, (7, 5)).astype(np.float32))
    weights, bias = LastLayers(HALF).linear()
    np.testing.assert_array_equal(weights, W.astype(np.float16))
    np.testing.assert_allclose(again, 0.5 * penultimate @ weights.T + bias, atol=0.01)


class Projection(factories.Features):
    """NAN's: hidden layer, embedding, its cosines with prototypes over a temperature."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(8, 12)
        self.embedding = nn.Linear(12, 6)
        self.prototypes = nn.Parameter(torch.randn(3, 6))

    def last(self, hidden: Tensor) -> Tensor:
        return F.normalize(self.embedding(hidden)) @ F.normalize(self.prototypes).T / 0.1

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.relu(self.hidden(self.features(x)))
        return self.last(hidden), hidden


def test_an_exported_projection_head() -> None:
    """Its normalisation asks for the number of images."""
    module = Projection().eval()
    model = to_onnx(Backbone(module, SPEC), SPEC)
    penultimate, logits, again = copied(model, calibration_images(9))
    layers = LastLayers(model)
    with torch.no_grad():
        expected = module.double().last(torch.from_numpy(0.5 * penultimate.astype(np.float64))).numpy()
    np.testing.assert_allclose(layers(0.5 * penultimate), expected, rtol=1e-6)
    np.testing.assert_allclose(again, expected, rtol=1e-4)
    np.testing.assert_allclose(logits, layers(penultimate), rtol=1e-4)
    with pytest.raises(ExportError, match="not a plain linear layer of the penultimate activations"):
        layers.linear()
    product = F.normalize(module.prototypes) @ module.embedding.weight
    np.testing.assert_allclose(layers.composed(), product.detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("module", [classifier().module, factories.Pair()], ids=["Linear", "matrix product"])
def test_an_exported_linear_layer(module: nn.Module) -> None:
    model = to_onnx(Backbone(module.eval(), SPEC), SPEC)
    penultimate, logits, again = copied(model, calibration_images(9))
    weights, bias = LastLayers(model).linear()
    np.testing.assert_array_equal(LastLayers(model).composed(), weights)
    np.testing.assert_allclose(logits, penultimate @ weights.T + bias, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(again, 0.5 * penultimate @ weights.T + bias, rtol=1e-5, atol=1e-6)


def test_two_linear_layers_are_not_one() -> None:
    square = np.eye(5, dtype=np.float32)
    nodes = [RELU, node("MatMul", "penultimate m", "y"), node("Gemm", "y w b", "logits", transB=1)]
    with pytest.raises(ExportError, match="not a plain linear layer"):
        LastLayers(graph(*nodes, m=square, w=W, b=B)).linear()


MISFITS: dict[str, Callable[[], onnx.ModelProto]] = {
    "need more of the image": lambda: graph(
        node("Relu", "images", "penultimate"),
        node("Gemm", "penultimate w", "y", transB=1),
        node("Gemm", "images w", "z", transB=1),
        node("Add", "y z", "logits"),
        w=W,
    ),
    "no function of the penultimate": lambda: graph(RELU, node("Gemm", "x w", "logits", transB=1), w=W),
}


@pytest.mark.parametrize("message", MISFITS)
def test_logits_that_do_not_follow_from_the_activations(message: str) -> None:
    with pytest.raises(ExportError, match=message):
        LastLayers(MISFITS[message]())
