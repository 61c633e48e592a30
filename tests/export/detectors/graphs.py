"""Graphs that are nothing but last layers and head, detectors in them, and features to fit on."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from export.detectors.base import base_scores
from export.detectors.columns import attach
from export.detectors.interface import Detector, Fitted, Observed, Training
from export.graph import head
from export.graph.last_layers import LastLayers

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Example:
    """A graph from features to scores, features to fit on with their classes, and features to score."""

    model: onnx.ModelProto
    fitted_on: Array
    labels: npt.NDArray[np.int64]
    scored: Array

    def training(self, seed: int = 0, settings: Mapping[type[Fitted], Any] | None = None) -> Training:
        """What the graph outputs for the features to fit on, and for their columns in another order as outliers."""
        logits = run(self.model, self.fitted_on)["logits"]
        strange = np.roll(self.fitted_on[::2], 1, axis=1)
        outliers = {"strange": Observed(run(self.model, strange)["logits"], strange)}
        return Training(logits, self.fitted_on, self.labels, LastLayers(self.model), seed, settings or {}, outliers)


def graph(
    nodes: list[onnx.NodeProto], constants: Mapping[str, npt.NDArray[Any]], classes: int, features: int
) -> onnx.ModelProto:
    """A model that takes features as ``x``; the nodes make ``penultimate`` and ``logits`` of it."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N", features))]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ("N", size))
        for name, size in (("logits", classes), ("penultimate", features))
    ]
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    body = helper.make_graph(nodes, "last", inputs, outputs, initializers)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    attach(model, base_scores())
    return model


def linear(weights: npt.ArrayLike, bias: npt.ArrayLike) -> onnx.ModelProto:
    """logits = W x + b, penultimate = x."""
    w, b = np.asarray(weights, np.float32), np.asarray(bias, np.float32)
    nodes = [
        helper.make_node("Identity", ["x"], ["penultimate"]),
        helper.make_node("Gemm", ["penultimate", "w", "b"], ["logits"], transB=1),
    ]
    return graph(nodes, {"w": w, "b": b}, *w.shape)


def cosine(embedding: npt.ArrayLike, prototypes: npt.ArrayLike) -> onnx.ModelProto:
    """A projection head: logits = 10 cos(E x, prototypes), penultimate = x."""
    e, p = np.asarray(embedding, np.float32), np.asarray(prototypes, np.float32)
    nodes = [
        helper.make_node("Identity", ["x"], ["penultimate"]),
        helper.make_node("Gemm", ["penultimate", "e"], ["embedding"], transB=1),
        helper.make_node("LpNormalization", ["embedding"], ["unit"], axis=1, p=2),
        helper.make_node("MatMul", ["unit", "p"], ["cosines"]),
        helper.make_node("Mul", ["cosines", "ten"], ["logits"]),
    ]
    p = p / np.linalg.norm(p, axis=1, keepdims=True)
    return graph(nodes, {"e": e, "p": p.T.copy(), "ten": np.array(10, np.float32)}, len(p), e.shape[1])


def run(model: onnx.ModelProto, x: npt.ArrayLike) -> dict[str, npt.NDArray[Any]]:
    """All outputs by name."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"x": np.asarray(x, np.float32)}), strict=True))


def with_detectors(model: onnx.ModelProto, *detectors: Detector) -> onnx.ModelProto:
    """A copy with columns for these detectors after its own."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    names = [f"column {i}" for i in range(len(head.columns(copy)))]
    attach(copy, {f"detector {i}": detector for i, detector in enumerate(detectors)}, names)
    onnx.checker.check_model(copy, full_check=True)
    return copy


def in_graph(model: onnx.ModelProto, detector: Detector, x: npt.ArrayLike) -> Array:
    """A detector's scores (N,) by the graph."""
    return np.asarray(run(with_detectors(model, detector), x)["scores"][:, -1])


def reference(model: onnx.ModelProto, detector: Detector, x: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The same by the float64 reference, from the logits and activations that the graph outputs."""
    outputs = run(model, x)
    return detector.reference(outputs["logits"], outputs["penultimate"])


def relative_difference(found: npt.ArrayLike, expected: npt.NDArray[np.float64]) -> float:
    """The largest, relative to a score or, where it is small because two terms cancel, to the median of its magnitude."""
    scale = np.maximum(np.abs(expected), np.median(np.abs(expected)))
    return float((np.abs(np.asarray(found) - expected) / scale).max())


def random(classes: int = 10, features: int = 32, count: int = 1000, seed: int = 0) -> Example:
    """Rectified features around a mean for each class, and a linear layer that tells them apart."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(0.5, 1, (classes, features))
    labels = np.arange(count) % classes

    def around(classes_of: npt.NDArray[np.int64]) -> Array:
        noise = rng.normal(0, 0.7, (len(classes_of), features))
        return np.maximum(centres[classes_of] + noise, 0).astype(np.float32)

    scored = np.concatenate([around(labels[:40]), np.maximum(rng.normal(0.5, 2, (24, features)), 0).astype(np.float32)])
    model = linear(centres / np.sqrt(features), rng.normal(0.5, 0.5, classes))
    return Example(model, around(labels), labels, scored)


@cache
def digits() -> Example:
    """The hidden layer of a small network trained on scikit-learn's digits; scored are further digits and noise."""
    images, labels = load_digits(return_X_y=True)
    images = images / 16
    network = MLPClassifier((48,), random_state=0, max_iter=40)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        network.fit(images[:1200], labels[:1200])
    noise = np.random.default_rng(0).random((60, 64))

    def hidden(x: npt.NDArray[np.float64]) -> Array:
        return np.maximum(x @ network.coefs_[0] + network.intercepts_[0], 0).astype(np.float32)

    model = linear(network.coefs_[1].T, network.intercepts_[1])
    scored = hidden(np.concatenate([images[1200:1400], noise]))
    return Example(model, hidden(images[:1200]), labels[:1200].astype(np.int64), scored)
