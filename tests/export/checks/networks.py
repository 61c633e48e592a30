"""Small networks as ONNX graphs, whose own framework is ONNX Runtime: no torch, no export to wait for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from export.classifier import Activations, Classifier
from runtime.manifest import InputSpec, Task

SPEC = InputSpec(4, 4, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
LABELS = ("cat", "dog", "ship")
D = 6
RNG = np.random.default_rng(5)
HIDDEN = RNG.normal(0, 0.5, (48, D)).astype(np.float32)
WEIGHTS = RNG.normal(0, 3, (3, D)).astype(np.float32)
BIAS = np.array([0.5, -1.0, 2.0], np.float32)
IMAGES = RNG.integers(0, 256, (40, 4, 4, 3), dtype=np.uint8)


def node(kind: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), [output], **attributes)


def graph(
    *end: onnx.NodeProto, outputs: int = 3, weights: Any = WEIGHTS, bias: Any = BIAS, **constants: Any
) -> onnx.ModelProto:
    """Pixels, a hidden layer, ``penultimate``, the logits ``z``; the nodes `end` make the output ``logits`` of them."""
    constants |= {"scale": np.float32(1 / 255), "flat": np.array([-1, 48]), "hidden": HIDDEN, "w": weights, "b": bias}
    nodes = [
        node("Cast", "images", "pixels", to=TensorProto.FLOAT),
        node("Mul", "pixels scale", "scaled"),
        node("Reshape", "scaled flat", "rows"),
        node("MatMul", "rows hidden", "mixed"),
        node("Relu", "mixed", "features"),
        *([] if any("penultimate" in item.output for item in end) else [node("Identity", "features", "penultimate")]),
        node("Gemm", "features w b", "z", transB=1),
        *end,
    ]
    body = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ("N", 4, 4, 3))],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ("N", outputs) if outputs else ("N",)),
            helper.make_tensor_value_info("penultimate", TensorProto.FLOAT, ("N", None)),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@dataclass(frozen=True)
class Network(Classifier):
    """A graph as it is."""

    model: onnx.ModelProto

    @property
    def framework(self) -> str:
        return "ONNX Runtime"

    @property
    def parameters(self) -> int:
        return WEIGHTS.size

    def graph(self) -> onnx.ModelProto:
        copy = onnx.ModelProto()
        copy.CopyFrom(self.model)
        return copy

    def run(self, images: npt.NDArray[np.uint8]) -> Activations:
        logits, penultimate = self._session.run(["logits", "penultimate"], {"images": images})
        return logits, penultimate

    @cached_property
    def _session(self) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        return ort.InferenceSession(self.model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def network(model: onnx.ModelProto, labels: tuple[str, ...] = LABELS, task: Task = "multiclass") -> Network:
    return Network("small", "unknown", task, labels, SPEC, model)


def features(images: npt.NDArray[np.uint8] = IMAGES) -> npt.NDArray[np.float64]:
    """The penultimate activations (N, D), in float64."""
    return np.maximum(images.reshape(-1, 48) / 255 @ HIDDEN.astype(np.float64), 0)


def logits(images: npt.NDArray[np.uint8] = IMAGES) -> npt.NDArray[np.float64]:
    """The logits (N, K), in float64."""
    return np.asarray(features(images) @ WEIGHTS.T.astype(np.float64) + BIAS)
