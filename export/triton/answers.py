"""The answers in the graph: what a decision says of each image, appended to a bundle's graph as outputs.

Triton's ONNX Runtime backend then gives what `/v2` of the service gives (:data:`runtime.tensors.OUTPUTS`), with no code
of ours. `accept` is the graph's own; nothing here decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from export.from_onnx.surgery.network import rename, unused
from export.graph.building import LOGITS, PENULTIMATE, Graph, prune
from runtime.manifest import GateSpec, Manifest
from runtime.rule import Rule
from runtime.tensors import OUTPUTS

_FLOAT32_MAX = float(np.finfo(np.float32).max)
_LABELS, _REASONS = "label_words", "reason_words"
_TABLES = {_LABELS, _REASONS}


def answering(model: bytes, manifest: Manifest, gate: GateSpec, *, thresholds: bool) -> bytes:
    """A bundle's graph with the outputs of :data:`runtime.tensors.OUTPUTS` and ``logits``, and no others.

    Args:
        model: model.onnx.
        manifest, gate: of the same bundle.
        thresholds: whether the thresholds stay inputs with a default; otherwise they are constants.
    """
    graph = onnx.load_from_string(model)
    _make_room(graph)
    g = Graph(graph)
    predicted = g.op("ArgMax", LOGITS, axis=1, keepdims=0)
    _probabilities(g, manifest, predicted)
    _words(g, manifest, predicted, _known(g, manifest, gate, predicted))
    _p_value(g, manifest, gate, predicted)
    _drop(graph.graph.output, PENULTIMATE)
    if not thresholds:
        for name in [tensor.name for tensor in graph.graph.initializer]:
            _drop(graph.graph.input, name)
    prune(graph)
    return bytes(graph.SerializeToString())


def _make_room(model: onnx.ModelProto) -> None:
    """Give tensors of the network that have the names of answers others."""
    taken = {name for node in model.graph.node for name in node.output} | {t.name for t in model.graph.initializer}
    own = (OUTPUTS.keys() | _TABLES) - {output.name for output in model.graph.output}
    rename(model, {name: unused(name, taken) for name in own & taken})


def _probabilities(g: Graph, manifest: Manifest, predicted: str) -> None:
    """``probabilities``, ``class_index`` and ``confidence``: :func:`runtime.rule.probabilities`, in float64 as there."""
    temperature = manifest.confidence.temperature if manifest.confidence else 1.0
    scaled = g.op("Div", g.op("Cast", LOGITS, to=TensorProto.DOUBLE), g.constant(np.float64(temperature)))
    multilabel = manifest.task == "multilabel"
    exact = g.op("Sigmoid", scaled) if multilabel else g.op("Softmax", scaled, axis=1)
    probabilities = g.op("Cast", exact, output="probabilities", to=TensorProto.FLOAT)
    column = g.op("Unsqueeze", predicted, g.constant(np.array([1])))
    own = g.op("GatherElements", probabilities, column, axis=1)
    g.op("Squeeze", own, g.constant(np.array([1])), output="confidence")
    g.op("Cast", predicted, output="class_index", to=TensorProto.INT32)
    g.declare_output("class_index", TensorProto.INT32, ("N",))
    g.declare_output("confidence", TensorProto.FLOAT, ("N",))
    g.declare_output("probabilities", TensorProto.FLOAT, ("N", len(manifest.labels)))


def _known(g: Graph, manifest: Manifest, gate: GateSpec, predicted: str) -> str:
    """Whether the gate alone lets each image pass, bool (N,): :meth:`runtime.rule.Rule.known`."""
    limit = "threshold"
    if gate.class_conditional:
        limit = g.op("Where", g.op("IsNaN", limit), g.op("Gather", "class_thresholds", predicted), limit)
    return g.op("And", g.op("GreaterOrEqual", _score(g, manifest, gate), limit), _finite(g))


def _words(g: Graph, manifest: Manifest, predicted: str, known: str) -> None:
    """``label``, empty on reject, and ``reason``, empty on accept."""
    zero, one = g.constant(np.int64(0)), g.constant(np.int64(1))
    label = g.op("Where", "accept", g.op("Add", predicted, one), zero)
    reason = g.op("Where", "accept", zero, g.op("Where", known, g.constant(np.int64(2)), one))
    g.op("Gather", _strings(g, _LABELS, ["", *manifest.labels]), label, output="label")
    g.op("Gather", _strings(g, _REASONS, ["", "ood", "uncertain"]), reason, output="reason")
    g.declare_output("label", TensorProto.STRING, ("N",))
    g.declare_output("reason", TensorProto.STRING, ("N",))


def _p_value(g: Graph, manifest: Manifest, gate: GateSpec, predicted: str) -> None:
    """``p_value``: how many calibration scores an image's score reaches, looked up among what :class:`Rule` says for each.

    A class with a threshold of its own has its own row of scores, padded with infinity; the others share the first.
    """
    rule, known = Rule.of(manifest), [gate.calibration.quantiles[gate.score]]
    asked: list[Callable[[float], float]] = [rule.p_value_among_all]
    rows = np.zeros(len(manifest.labels), np.int64)
    for label in gate.classes:
        k = manifest.labels.index(label)
        rows[k] = len(known)
        known.append(gate.calibration.classes[label].quantiles)
        asked.append(partial(rule.p_value, predicted=k))
    width = max(map(len, known))
    scores = np.full((len(known), width), np.inf, np.float32)
    values = np.ones((len(known), width + 2))  # by the count, and last where the score is not finite
    for i, (quantiles, p_value) in enumerate(zip(known, asked, strict=True)):
        scores[i, : len(quantiles)] = quantiles
        reached = [-_FLOAT32_MAX, *scores[i, : len(quantiles)].tolist()]
        values[i, : len(reached)] = [p_value(score) for score in reached]
        values[i, -1] = p_value(np.nan)
    row, score = g.op("Gather", g.constant(rows), predicted), _score(g, manifest, gate)
    column = g.op("Unsqueeze", score, g.constant(np.array([1])))
    reaches = g.op("GreaterOrEqual", column, g.op("Gather", g.constant(scores), row, axis=0))
    count = g.reduce("ReduceSum", g.op("Cast", reaches, to=TensorProto.INT64), keepdims=False)
    finite = g.op("LessOrEqual", g.op("Abs", score), _FLOAT32_MAX)
    at = g.op("Where", finite, count, g.constant(np.int64(width + 1)))
    place = g.op("Add", g.op("Mul", row, g.constant(np.int64(width + 2))), at)
    g.op("Gather", g.constant(values.ravel()), place, output="p_value")
    g.declare_output("p_value", TensorProto.DOUBLE, ("N",))


def _score(g: Graph, manifest: Manifest, gate: GateSpec) -> str:
    """The gate's score (N,)."""
    return g.op("Gather", "scores", g.constant(np.int64(manifest.scores.index(gate.score))), axis=1)


def _finite(g: Graph) -> str:
    """Whether every score of an image is finite, bool (N,)."""
    return g.op("LessOrEqual", g.reduce("ReduceL1", "scores", keepdims=False), _FLOAT32_MAX)


def _strings(g: Graph, name: str, words: Sequence[str]) -> str:
    g.model.graph.initializer.append(numpy_helper.from_array(np.array(words, dtype=object), name))
    return name


def _drop(tensors: Any, name: str) -> None:
    """Let a tensor be no input, or output, of the graph any more."""
    for index in reversed(range(len(tensors))):
        if tensors[index].name == name:
            del tensors[index]
