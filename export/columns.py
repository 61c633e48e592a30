"""Other columns of ``scores`` in a graph that has its head and its gate."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx

from export.graph import PREFIX, Graph

_SCORES = "scores"


def replace(model: onnx.ModelProto, keep: Sequence[int], build: Callable[[Graph], Sequence[str]]) -> None:
    """Keep the columns `keep`, drop the others with all that only they needed, and append new ones.

    Args:
        model: changed in place. What is computed from ``scores``, the gate, stays as it is.
        keep: indices of columns.
        build: appends nodes and returns the names of the new columns, float32 (N, 1) each.
    """
    graph = model.graph
    concatenation = next(node for node in graph.node if _SCORES in node.output)
    columns = [concatenation.input[index] for index in keep]
    following = _cut_off_what_follows(graph)
    _drop_unneeded(graph, {*columns, *(name for node in following for name in node.input)})
    g = Graph(model)
    columns += build(g)
    g.op("Concat", *columns, output=_SCORES, axis=1)
    graph.node.extend(following)
    (output,) = (item for item in graph.output if item.name == _SCORES)
    output.type.tensor_type.shape.dim[1].dim_value = len(columns)


def _cut_off_what_follows(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Remove ``scores`` and all that is computed from it; returns the latter, in order."""
    names, before, following = {_SCORES}, [], []
    for node in graph.node:
        if names & set(node.input):
            names.update(node.output)
            following.append(node)
        elif _SCORES not in node.output:
            before.append(node)
    del graph.node[:]
    graph.node.extend(before)
    return following


def _drop_unneeded(graph: onnx.GraphProto, needed: set[str]) -> None:
    """Remove our nodes and constants that neither `needed` nor the graph's outputs need."""
    needed |= {output.name for output in graph.output}
    for index in range(len(graph.node) - 1, -1, -1):
        node = graph.node[index]
        if node.name.startswith(PREFIX) and not needed & set(node.output):
            del graph.node[index]
        else:
            needed.update(node.input)
    for index in range(len(graph.initializer) - 1, -1, -1):
        name = graph.initializer[index].name
        if name.startswith(PREFIX) and name not in needed:
            del graph.initializer[index]
