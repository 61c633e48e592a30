"""scikit-learn's operators (the domain ai.onnx.ml) as operators of every runtime: scaling and linear classifiers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from export.exceptions import ExportError

DOMAIN = "ai.onnx.ml"
_TREES = {"TreeEnsembleClassifier", "TreeEnsembleRegressor", "TreeEnsemble"}
_POST = {"SOFTMAX": "Softmax", "LOGISTIC": "Sigmoid", "NONE": "Identity"}
# Made of labels or of probabilities; what they are made of is found behind them.
_ENDS = {"ZipMap", "Normalizer", "LabelEncoder", "Binarizer"}


def rewrite(model: onnx.ModelProto) -> None:
    """Replace what computes the logits by Sub, Mul, Gemm and Gather, in place; a classifier's label becomes an ArgMax.

    Raises:
        ExportError: a classifier that is no linear or neural network.
    """
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.domain == DOMAIN and node.op_type in _TREES:
            raise ExportError(
                f"a {node.op_type}: trees have neither logits nor penultimate activations for a gate to score; "
                "a linear or neural classifier has"
            )
        nodes += _REWRITTEN[node.op_type](node, model.graph) if _is(node, *_REWRITTEN) else [node]
    if other := sorted({node.op_type for node in nodes if node.domain == DOMAIN and node.op_type not in _ENDS}):
        raise ExportError(
            f"scikit-learn's {', '.join(other)} is no part of a linear or neural network, which are taken"
        )
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def labels(model: onnx.ModelProto) -> tuple[str, ...]:
    """The class names that a classifier of scikit-learn carries; none where there is none."""
    for node in reversed(model.graph.node):
        if _is(node, "ZipMap", "LinearClassifier"):
            found = _attributes(node)
            for key in ("classlabels_strings", "classlabels_int64s", "classlabels_ints"):
                if found.get(key):
                    return tuple(item.decode() if isinstance(item, bytes) else str(item) for item in found[key])
    return ()


def _is(node: onnx.NodeProto, *kinds: str) -> bool:
    return node.domain == DOMAIN and node.op_type in kinds


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}


def _scaler(node: onnx.NodeProto, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """(x - offset) * scale."""
    found = _attributes(node)
    offset = _weights(graph, f"{node.output[0]}/offset", found["offset"])
    scale = _weights(graph, f"{node.output[0]}/scale", found["scale"])
    centred = f"{node.output[0]}/centred"
    return [
        helper.make_node("Sub", [node.input[0], offset], [centred]),
        helper.make_node("Mul", [centred, scale], [node.output[0]]),
    ]


def _linear(node: onnx.NodeProto, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Gemm, what becomes of its rows, and the class of the largest."""
    found = _attributes(node)
    label, scores = node.output
    bias = np.asarray(found.get("intercepts", [0.0]), dtype=np.float32)
    weights = np.asarray(found["coefficients"], dtype=np.float32).reshape(len(bias), -1)
    kind = found.get("post_transform", b"NONE").decode()
    if kind not in _POST:
        raise ExportError(f"a LinearClassifier with {kind}: expected SOFTMAX, LOGISTIC or NONE")
    logits = f"{scores}/logits"
    inputs = [node.input[0], _weights(graph, f"{scores}/w", weights), _weights(graph, f"{scores}/b", bias)]
    options: dict[str, Any] = {"axis": 1} if kind == "SOFTMAX" else {}
    return [
        helper.make_node("Gemm", inputs, [logits], transB=1),
        helper.make_node(_POST[kind], [logits], [scores], **options),
        helper.make_node("ArgMax", [scores], [label], axis=1, keepdims=0),
    ]


def _extractor(node: onnx.NodeProto, _: onnx.GraphProto) -> list[onnx.NodeProto]:
    return [helper.make_node("Gather", list(node.input), list(node.output), axis=-1)]


def _weights(graph: onnx.GraphProto, name: str, value: npt.ArrayLike) -> str:
    graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype=np.float32), name))
    return name


_REWRITTEN = {"Scaler": _scaler, "LinearClassifier": _linear, "ArrayFeatureExtractor": _extractor}
