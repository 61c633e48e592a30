"""Linear layers whose outputs are scaled or summed, as distilled DeiT's heads: one layer of what they read side by side."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from export.classifier import Activations
from export.graph.building import PENULTIMATE

Array = npt.NDArray[np.float64]

_AFFINE = 1e-3  # of the logits' range: what an affine function of float32 may differ by
_FEWEST = 3  # images, of which the heads' shares are learned


def layer_of_heads(model: onnx.ModelProto, found: Activations) -> tuple[Array, Array] | None:
    """Weights (K, D) and bias (K,) that make logits (N, K) of activations (N, D), which a graph may have concatenated.

    The weights of what reads each part are in the graph; with what factor each counts is fitted, which a few images do.
    None where they do not make the logits.
    """
    logits, penultimate = (part.astype(np.float64) for part in found)
    heads = _heads(model, logits.shape[1])
    if len(logits) < _FEWEST or not heads or sum(head.shape[1] for head in heads) != penultimate.shape[1]:
        return None
    edges = np.cumsum([0, *(head.shape[1] for head in heads)])
    made = [penultimate[:, start:end] @ head.T for head, (start, end) in zip(heads, pairwise(edges), strict=True)]
    columns = np.stack([(one - one.mean(axis=0)).ravel() for one in made], axis=1)
    shares, *_ = np.linalg.lstsq(columns, (logits - logits.mean(axis=0)).ravel(), rcond=None)
    weights = np.concatenate([share * head for share, head in zip(shares, heads, strict=True)], axis=1)
    rest = logits - penultimate @ weights.T
    return (weights, rest.mean(axis=0)) if np.ptp(rest, axis=0).max() <= _AFFINE * np.ptp(logits) else None


def _heads(model: onnx.ModelProto, classes: int) -> list[Array]:
    """Weights (K, D) of the linear layer that reads each part of the concatenation; none where one is missing."""
    producers = {name: node for node in model.graph.node for name in node.output}
    source = PENULTIMATE
    while (last := producers.get(source)) is not None and last.op_type in ("Identity", "Cast"):
        source = last.input[0]
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    parts = list(last.input) if last is not None and last.op_type == "Concat" else [source]
    found = [_reader(model, part, constants, classes) for part in parts]
    return [head for head in found if head is not None] if all(head is not None for head in found) else []


def _reader(model: onnx.ModelProto, part: str, constants: dict[str, onnx.TensorProto], classes: int) -> Array | None:
    for node in model.graph.node:
        if node.op_type not in ("Gemm", "MatMul") or node.input[0] != part or node.input[1] not in constants:
            continue
        turned = {item.name: helper.get_attribute_value(item) for item in node.attribute}.get("transB", 0)
        weights = numpy_helper.to_array(constants[node.input[1]]).astype(np.float64)
        weights = weights if turned else weights.T
        if weights.ndim == 2 and len(weights) == classes:
            return weights
    return None
