"""The last layer of a foreign graph: what the logits are an affine function of, the penultimate activations."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx

from export.exceptions import ExportError
from export.from_onnx.surgery.network import Network, attributes

Array = npt.NDArray[np.float64]

_TRANSPARENT = {"Identity", "Dropout", "Cast", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose"}
_POOLING = {"GlobalAveragePool", "ReduceMean"}
_QUANTISED = {"QLinearMatMul", "QLinearConv", "QGemm"}  # which read a tensor, its scale and its zero point first
_LAYERS = {
    "Gemm",
    "MatMul",
    "Conv",
    "FusedGemm",
    "FusedMatMul",
    "FusedConv",
    "MatMulInteger",
    "ConvInteger",
    *_QUANTISED,
}


@dataclass(frozen=True)
class Source:
    """A tensor of penultimate activations, [N, D] or [N, D, h, w].

    Attributes:
        tensor: its name.
        last: whether the D activations stand along its last axis, as a matrix product reads them, and not the second.
        scale, zero_point: the constants that turn 8 bits into numbers, where it has 8 bits.
    """

    tensor: str
    last: bool = False
    scale: str | None = None
    zero_point: str | None = None


@dataclass(frozen=True)
class LastLayer:
    """Logits f = weights @ a + bias of a, the sources one after the other.

    Attributes:
        sources: one, or several of heads that are averaged.
        weights, bias: float64 (K, D) and (K,); None where the logits are no affine function of the sources.
        exact: whether its numbers are those of float32, so that it may be written anew.
    """

    sources: tuple[Source, ...]
    weights: tuple[Array, ...] | None = None
    bias: Array | None = None
    exact: bool = True


def find(network: Network, logits: str) -> LastLayer:
    """The last layer that makes a tensor of logits.

    Raises:
        ExportError: there is no layer with weights of its own.
    """
    found = affine(network, logits)
    return found if found is not None else LastLayer((_nearest(network, logits),), exact=False)


def candidates(network: Network) -> list[str]:
    """The tensors that layers read, which may be named as penultimate activations, the last first."""
    layers = [node for node in network.model.graph.node if node.op_type in _LAYERS]
    return list(dict.fromkeys(node.input[0] for node in reversed(layers)))


def affine(network: Network, name: str) -> LastLayer | None:
    """A tensor as an affine function of what a layer reads, by its weights; None where it is none."""
    node = network.producers.get(name)
    if node is None:
        return None
    kind = node.op_type
    if kind in _LAYERS:
        return _layer(network, node)
    if kind in _TRANSPARENT or kind in _POOLING:
        inner = affine(network, node.input[0])
        half = kind == "Cast" and attributes(node).get("to") not in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)
        return inner and replace(inner, exact=inner.exact and not half)
    if kind in ("QuantizeLinear", "DequantizeLinear"):
        inner = affine(network, node.input[0])
        return inner and replace(inner, exact=False)
    if kind == "Gather" and attributes(node).get("axis", 0) in (1, -1):
        return _rows(affine(network, node.input[0]), network.constant(node.input[1]))
    if kind in ("Add", "Sub", "Mul", "Div", "Sum"):
        return _combined(network, node)
    return None


def _layer(network: Network, node: onnx.NodeProto) -> LastLayer | None:
    """A Gemm, MatMul or 1x1 Conv whose weights are constants."""
    found = attributes(node)
    if node.op_type not in ("Gemm", "MatMul", "Conv") or node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "MatMul" and (first := network.constant(node.input[0])) is not None:
        return _turned(network, node, first)
    weights = network.constant(node.input[1])
    bias = network.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(1, np.float32)
    if weights is None or bias is None or network.constant(node.input[0]) is not None:
        return None
    exact = weights.dtype != np.float16 and all(name in network.constants for name in node.input[1:] if name)
    w, b = weights.astype(np.float64), bias.astype(np.float64).reshape(-1)
    if node.op_type == "Conv":
        plain = weights.ndim == 4 and weights.shape[2:] == (1, 1) and found.get("group", 1) == 1
        if not plain or any(found.get("pads", ())) or set(found.get("strides", ())) - {1}:
            return None
        w = w[:, :, 0, 0]
    elif weights.ndim != 2:
        return None
    elif node.op_type == "Gemm":
        if found.get("transA", 0):
            return None
        w = found.get("alpha", 1.0) * (w if found.get("transB", 0) else w.T)
        b = found.get("beta", 1.0) * b
    else:
        w = w.T
    if b.size not in (1, len(w)):
        return None
    return LastLayer((Source(node.input[0], node.op_type != "Conv"),), (w,), np.broadcast_to(b, len(w)).copy(), exact)


def _turned(network: Network, node: onnx.NodeProto, weights: npt.NDArray[np.generic]) -> LastLayer | None:
    """A MatMul of weights (K, D) with activations (N, D) that are transposed for it."""
    transposed = network.producers.get(node.input[1])
    if weights.ndim != 2 or transposed is None or transposed.op_type != "Transpose":
        return None
    if list(attributes(transposed).get("perm", (1, 0))) != [1, 0]:
        return None
    exact = weights.dtype != np.float16 and node.input[0] in network.constants
    return LastLayer((Source(transposed.input[0], True),), (weights.astype(np.float64),), np.zeros(len(weights)), exact)


def _combined(network: Network, node: onnx.NodeProto) -> LastLayer | None:
    """What arithmetic with a constant, or of two heads, makes of a last layer."""
    kind, constants = node.op_type, [network.constant(name) for name in node.input]
    if kind == "Sum" or len(constants) != 2:
        return None
    if constants[0] is None and constants[1] is None:
        heads = [affine(network, name) for name in node.input]
        return _both(heads[0], heads[1], -1 if kind == "Sub" else 1) if kind in ("Add", "Sub") else None
    which = 1 if constants[0] is None else 0
    if which == 0 and kind == "Div":
        return None
    inner, raw = affine(network, node.input[1 - which]), constants[which]
    if inner is None or inner.weights is None or inner.bias is None or raw is None:
        return None
    c, exact = raw.astype(np.float64).reshape(-1), inner.exact and raw.dtype != np.float16
    if c.size not in (1, len(inner.bias)):
        return None
    if kind in ("Mul", "Div"):
        factor = np.broadcast_to(1 / c if kind == "Div" else c, len(inner.bias))
        weights = tuple(w * factor[:, None] for w in inner.weights)
        return replace(inner, weights=weights, bias=inner.bias * factor, exact=exact)
    if kind == "Add":
        return replace(inner, bias=inner.bias + c, exact=exact)
    if which == 1:
        return replace(inner, bias=inner.bias - c, exact=exact)
    return replace(inner, weights=tuple(-w for w in inner.weights), bias=c - inner.bias, exact=exact)


def _both(first: LastLayer | None, second: LastLayer | None, sign: int) -> LastLayer | None:
    """The sum or difference of two heads, of different activations."""
    if first is None or second is None or set(first.sources) & set(second.sources):
        return None
    if first.weights is None or second.weights is None or first.bias is None or second.bias is None:
        return None
    if len(first.bias) != len(second.bias):
        return None
    weights = (*first.weights, *(sign * w for w in second.weights))
    bias, exact = first.bias + sign * second.bias, first.exact and second.exact
    return LastLayer((*first.sources, *second.sources), weights, bias, exact)


def _rows(inner: LastLayer | None, indices: npt.NDArray[np.generic] | None) -> LastLayer | None:
    """Some of the logits."""
    if inner is None or inner.weights is None or inner.bias is None or indices is None:
        return None
    chosen = indices.astype(np.int64).reshape(-1)
    return replace(inner, weights=tuple(w[chosen] for w in inner.weights), bias=inner.bias[chosen])


def _nearest(network: Network, name: str) -> Source:
    """What the layer reads that is fewest nodes behind a tensor."""
    reached, queue = set[str](), [name]
    while queue:
        node = network.producers.get(queue.pop(0))
        if node is None or node.output[0] in reached:
            continue
        reached.add(node.output[0])
        if node.op_type in _LAYERS and network.constant(node.input[0]) is None:
            return _source(network, node)
        queue += network.data_inputs(node)
    raise ExportError(
        "there is no layer with weights in front of the logits, so no penultimate activations; name them by --penultimate"
    )


def _source(network: Network, node: onnx.NodeProto) -> Source:
    """What a layer reads, as numbers."""
    last = "Conv" not in node.op_type
    if node.op_type in _QUANTISED:
        return Source(node.input[0], last, node.input[1], node.input[2] or None)
    made_by = network.producers.get(node.input[0])
    if made_by is not None and made_by.op_type == "DynamicQuantizeLinear":
        return Source(made_by.input[0], last)
    return Source(node.input[0], last)
