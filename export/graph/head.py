"""The graph's face: the columns of ``scores``, the gate ``accept`` with its inputs, and the manifest in the metadata."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from export.graph.building import LOGITS, Graph, prune, remove_node, set_metadata
from runtime import rule
from runtime.manifest import Manifest

_FLOAT32_MAX = float(np.finfo(np.float32).max)


def create(g: Graph, tensors: Sequence[str]) -> None:
    """Append the outputs ``scores`` [N, S] and ``accept`` [N] and the overridable input ``threshold``.

    Until :func:`set_gate` is called the threshold is NaN, which rejects everything.

    Args:
        g: of a model with the float32 outputs ``logits`` [N, K] and ``penultimate`` [N, D].
        tensors: the S columns [N, 1].
    """
    scores = g.op("Concat", *tensors, output="scores", axis=1)
    g.declare_output(scores, TensorProto.FLOAT, ("N", len(tensors)))
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


def set_gate(
    model: onnx.ModelProto,
    column: int,
    threshold: float,
    class_thresholds: npt.NDArray[np.float32] | None = None,
    selection: tuple[int, float] | None = None,
) -> None:
    """Let ``accept`` compare column `column` of ``scores`` with a threshold, and demand that all scores are finite.

    Args:
        model: with a gate already, which is replaced.
        column: of ``scores``.
        threshold: the default of the input ``threshold``.
        class_thresholds: float32 (K,), the default of the input ``class_thresholds``: thresholds by predicted class,
            the first of the largest logits. They hold while ``threshold`` is NaN, which then is its default; a number
            there holds for every class.
        selection: another column, and the default of the input ``selection_threshold``, which it has to reach too.
    """
    remove_node(model, "accept")
    prune(model)
    _gate(Graph(model), column, threshold, class_thresholds, selection)


def seal(model: onnx.ModelProto, manifest: Manifest) -> bytes:
    """The bytes of model.onnx with the manifest's gate as its default and the manifest in its metadata."""
    if gate := manifest.gate:
        own = rule.thresholds(manifest.labels, gate) if gate.class_conditional else None
        selection = None
        if gate.max_error and gate.selection:
            selection = manifest.scores.index(gate.max_error.score), gate.selection.threshold
        set_gate(model, manifest.scores.index(gate.score), gate.threshold, own, selection)
    set_metadata(model, manifest.embedded.to_json())
    return bytes(model.SerializeToString())


def _gate(
    g: Graph,
    column: int,
    threshold: float,
    class_thresholds: npt.NDArray[np.float32] | None = None,
    selection: tuple[int, float] | None = None,
) -> str:
    limit = _overridable(g, "threshold", np.float32(threshold if class_thresholds is None else np.nan))
    if class_thresholds is not None:
        predicted = g.op("ArgMax", LOGITS, axis=1, keepdims=0)
        own = g.op("Gather", _overridable(g, "class_thresholds", class_thresholds), predicted)
        limit = g.op("Where", g.op("IsNaN", limit), own, limit)
    score = g.op("Gather", "scores", g.constant(np.int64(column), "gate_column"), axis=1)
    finite = g.op("LessOrEqual", g.reduce("ReduceL1", "scores", keepdims=False), _FLOAT32_MAX)
    known = g.op("GreaterOrEqual", score, limit)
    if selection is not None:
        other = g.op("Gather", "scores", g.constant(np.int64(selection[0]), "selection_column"), axis=1)
        least = _overridable(g, "selection_threshold", np.float32(selection[1]))
        known = g.op("And", known, g.op("GreaterOrEqual", other, least))
    return g.op("And", known, finite, output="accept")


def _overridable(g: Graph, name: str, default: npt.NDArray[np.float32] | np.float32) -> str:
    """An input with a default."""
    g.model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, default.shape))
    return g.constant(default, name)
