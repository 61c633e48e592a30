"""A graph of OpenVINO in two: the trunk up to the penultimate activations, and the head behind them.

What is not to be in fp32 is the trunk alone. A hint of precision holds for a whole compiled model, and OpenVINO gives
multiplications with weights in the head, the last linear layer's among them, the precision of the hint; so the head is
compiled by itself.
"""

from __future__ import annotations

import importlib
from typing import Any


def split(model: Any) -> tuple[Any, Any]:
    """The trunk and the head of an ``openvino.Model``, which is taken apart.

    The trunk's first output is ``penultimate``, and its outputs are the head's inputs, in order; the head's outputs are
    ``logits``, if it has any, and ``scores``.
    """
    openvino, opset = importlib.import_module("openvino"), importlib.import_module("openvino.opset13")
    penultimate = model.output("penultimate").get_node().input_value(0)
    inside = _ancestors(penultimate.get_node()) | {node.get_name() for node in model.get_parameters()}
    cut = [output for output in _outputs(model, inside) if _readers(output, inside)]
    cut.sort(key=lambda output: output != penultimate)
    inputs = []
    for output in cut:
        given = opset.parameter(output.get_partial_shape(), output.get_element_type())
        for reader in _readers(output, inside):
            reader.replace_source_output(given.output(0))
        inputs.append(given)
    wanted = {"logits", "scores"}
    results = [each for each in model.get_results() if wanted & each.input_value(0).get_names()]
    results.sort(key=lambda each: "scores" in each.input_value(0).get_names())
    trunk = openvino.Model([opset.result(output) for output in cut], model.get_parameters(), "trunk")
    return trunk, openvino.Model(results, inputs, "head")


def _ancestors(node: Any) -> set[str]:
    """The names of a node and of all that it depends on."""
    found, open_ = {node.get_name()}, [node]
    while open_:
        for value in open_.pop().input_values():
            if value.get_node().get_name() not in found:
                found.add(value.get_node().get_name())
                open_.append(value.get_node())
    return found


def _outputs(model: Any, inside: set[str]) -> list[Any]:
    """What the nodes of `inside` make, constants apart."""
    nodes = [node for node in model.get_ordered_ops() if node.get_name() in inside]
    return [output for node in nodes if node.get_type_name() != "Constant" for output in node.outputs()]


def _readers(output: Any, inside: set[str]) -> list[Any]:
    """The inputs of nodes outside that read an output."""
    return [reader for reader in output.get_target_inputs() if reader.get_node().get_name() not in inside]
