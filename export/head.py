"""The score head: the base scores and the gate, appended to a graph that outputs logits and penultimate.

Each builder mirrors the float64 reference of the same name in :mod:`export.detectors.base`, in float32 operators that ONNX
Runtime, TensorRT and TensorRT-RTX all take. What two scores have in common, such as the softmax, is computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from export.graph import Graph, prune, remove_node

LOGITS, PENULTIMATE = "logits", "penultimate"
_FLOAT32_MAX = float(np.finfo(np.float32).max)


def msp(g: Graph) -> str:
    """max softmax(f)."""
    return max_probability(g, 1.0, LOGITS)


def max_logit(g: Graph) -> str:
    """max f."""
    return g.reduce("ReduceMax", LOGITS)


def energy(g: Graph, temperature: float = 1.0, logits: str = LOGITS) -> str:
    """T logsumexp(f / T) = max f - T log max softmax(f / T)."""
    log = _scaled(g, g.op("Log", max_probability(g, temperature, logits)), temperature)
    return g.op("Sub", g.reduce("ReduceMax", logits), log)


def joint_energy(g: Graph) -> str:
    """sum_k max(f_k, 0) + log(1 + e) with e = exp(-|f_k|).

    In float32, 1 + e rounds to u. The lost e - (u - 1) is computed exactly and added to log u, so that the sum
    keeps its relative precision where all labels are improbable, which is where multi-label images are rejected.
    """
    e = g.op("Exp", g.op("Neg", g.op("Abs", LOGITS)))
    u = g.op("Add", e, 1.0)
    lost = g.op("Sub", e, g.op("Sub", u, 1.0))
    softplus = g.op("Sum", g.op("Relu", LOGITS), g.op("Log", u), lost)
    return g.reduce("ReduceSum", softplus)


def nan(g: Graph, penultimate: str = PENULTIMATE) -> str:
    """||a||_1 / ||a||_0, and 0 where no activation is positive: the count c is min(c, 1) / max(c, 1) of the norm."""
    norm = feature_norm(g, penultimate)
    count = g.reduce("ReduceSum", g.op("Cast", g.op("Greater", penultimate, 0.0), to=TensorProto.FLOAT))
    return g.op("Div", g.op("Mul", norm, g.op("Min", count, 1.0)), g.op("Max", count, 1.0))


def feature_norm(g: Graph, penultimate: str = PENULTIMATE) -> str:
    """||a||_1."""
    return g.reduce("ReduceL1", penultimate)


SCORES: dict[str, Callable[..., str]] = {
    "msp": msp,
    "max_logit": max_logit,
    "energy": energy,
    "joint_energy": joint_energy,
    "nan": nan,
    "feature_norm": feature_norm,
}


def attach(model: onnx.ModelProto, parameters: Mapping[str, Mapping[str, float]]) -> None:
    """Append the outputs ``scores`` [N, S] and ``accept`` [N] and the overridable input ``threshold``.

    Until :func:`set_gate` is called the threshold is NaN, which rejects everything.

    Args:
        model: with the float32 outputs ``logits`` [N, K] and ``penultimate`` [N, D].
        parameters: keyword arguments of a score, such as ``{"energy": {"temperature": 0.1}}``.
    """
    g = Graph(model)
    columns = [build(g, **parameters.get(name, {})) for name, build in SCORES.items()]
    scores = g.op("Concat", *columns, output="scores", axis=1)
    g.declare_output(scores, TensorProto.FLOAT, ("N", len(columns)))
    g.declare_output(_gate(g, 0, float("nan")), TensorProto.BOOL, ("N",))


def columns(model: onnx.ModelProto) -> list[str]:
    """The tensors [N, 1] that are the columns of ``scores``, in order."""
    (node,) = (node for node in model.graph.node if "scores" in node.output)
    return list(node.input)


def set_columns(model: onnx.ModelProto, tensors: Sequence[str]) -> None:
    """Let ``scores`` be these columns [N, 1] and nothing else; the gate then has no threshold and rejects everything."""
    remove_node(model, "scores")
    Graph(model).op("Concat", *tensors, output="scores", axis=1)
    (output,) = (output for output in model.graph.output if output.name == "scores")
    output.type.tensor_type.shape.dim[1].dim_value = len(tensors)
    set_gate(model, 0, float("nan"))


def set_temperature(model: onnx.ModelProto, column: int, temperature: float) -> None:
    """Give the energy score, column `column` of ``scores``, another temperature."""
    replaced = columns(model)
    replaced[column] = energy(Graph(model), temperature)
    set_columns(model, replaced)


def set_gate(
    model: onnx.ModelProto, column: int, threshold: float, class_thresholds: npt.NDArray[np.float32] | None = None
) -> None:
    """Let ``accept`` compare column `column` of ``scores`` with a threshold, and demand that all scores are finite.

    Args:
        model: with a gate already, which is replaced.
        column: of ``scores``.
        threshold: the default of the input ``threshold``.
        class_thresholds: float32 (K,), the default of the input ``class_thresholds``: thresholds by predicted class,
            the first of the largest logits. They hold while ``threshold`` is NaN, which then is its default; a number
            there holds for every class.
    """
    remove_node(model, "accept")
    prune(model)
    _gate(Graph(model), column, threshold, class_thresholds)


def _gate(g: Graph, column: int, threshold: float, class_thresholds: npt.NDArray[np.float32] | None = None) -> str:
    limit = _overridable(g, "threshold", np.float32(threshold if class_thresholds is None else np.nan))
    if class_thresholds is not None:
        predicted = g.op("ArgMax", LOGITS, axis=1, keepdims=0)
        own = g.op("Gather", _overridable(g, "class_thresholds", class_thresholds), predicted)
        limit = g.op("Where", g.op("IsNaN", limit), own, limit)
    score = g.op("Gather", "scores", g.constant(np.int64(column), "gate_column"), axis=1)
    finite = g.op("LessOrEqual", g.reduce("ReduceL1", "scores", keepdims=False), _FLOAT32_MAX)
    return g.op("And", g.op("GreaterOrEqual", score, limit), finite, output="accept")


def _overridable(g: Graph, name: str, default: npt.NDArray[np.float32] | np.float32) -> str:
    """An input with a default."""
    g.model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, default.shape))
    return g.constant(default, name)


def max_probability(g: Graph, temperature: float, logits: str) -> str:
    """max softmax(f / T), in [1/K, 1]."""
    return g.reduce("ReduceMax", g.op("Softmax", _scaled(g, logits, 1 / temperature), axis=1))


def _scaled(g: Graph, tensor: str, factor: float) -> str:
    return tensor if factor == 1.0 else g.op("Mul", tensor, factor)
