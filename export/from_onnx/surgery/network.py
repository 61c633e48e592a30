"""A foreign graph made plain: weights and constants are initializers, functions and scikit-learn's operators are nodes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from graphlib import CycleError, TopologicalSorter
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, inliner, numpy_helper
from onnx.reference import ReferenceEvaluator

from export.exceptions import ExportError
from export.from_onnx.surgery import scikit
from export.graph.building import prune, reads

_STANDARD = ("", "ai.onnx")
# Domains whose operators ONNX Runtime brings along.
_KNOWN = (*_STANDARD, scikit.DOMAIN, "com.microsoft")
# What is not computed beforehand though its inputs are constants: 8-bit weights stay so, chance stays chance.
_KEPT = ("Quantize", "Dequantize", "Random", "Bernoulli", "Multinomial", "If", "Loop", "Scan", "Sequence", "Optional")
_MAX_FOLDED, _MAX_GROWN = 2**27, 2**30  # elements
_GROWING = {"ConstantOfShape": 0, "Expand": 1, "Tile": 1}  # which input says how large a result is
_OPENED = {"QLinearSoftmax": "Softmax", "QLinearSigmoid": "Sigmoid"}


class Network:
    """Looks into a plain graph.

    Attributes:
        model: the graph.
        constants: initializers by name.
        producers: the node that makes a tensor, by the tensor's name.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.producers = {name: node for node in model.graph.node for name in node.output if name}

    def constant(self, name: str) -> npt.NDArray[Any] | None:
        """The value of a tensor that is constant, 8-bit weights in their own units; None for another."""
        if name in self.constants:
            return np.asarray(numpy_helper.to_array(self.constants[name]))
        node = self.producers.get(name)
        if node is None or node.op_type != "DequantizeLinear" or node.input[0] not in self.constants:
            return None
        values = [self.constant(item) for item in node.input]
        return None if any(value is None for value in values) else dequantised(node, values)

    def data_inputs(self, node: onnx.NodeProto) -> list[str]:
        """The inputs of a node that are not constants."""
        return [name for name in node.input if name and self.constant(name) is None]

    @property
    def opset(self) -> int:
        """The version of the standard operators."""
        return next((item.version for item in self.model.opset_import if item.domain in _STANDARD), 1)


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Attributes by name."""
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}


def plain(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose tensors keep their names.

    Raises:
        ExportError: operators that ONNX Runtime alone does not have, or that are no part of a linear or neural network.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(inliner.inline_local_functions(model) if model.functions else model)
    check_domains(copy)
    _leave_sizes_open(copy.graph)
    _put_in_order(copy)
    scikit.rewrite(copy)
    _open_quantised(copy)
    lift_constants(copy)
    _forget_overridable(copy.graph)
    _forget_dropout(copy.graph)
    fold(copy)
    return copy


def check_domains(model: onnx.ModelProto) -> None:
    """Raises ExportError for operators of a domain that ONNX Runtime does not bring along."""
    foreign = {(node.domain, node.op_type) for node in model.graph.node if node.domain not in _KNOWN}
    if foreign:
        domain = sorted(foreign)[0][0]
        kinds = ", ".join(sorted(kind for where, kind in foreign if where == domain))
        raise ExportError(
            f"it has operators of its own, {kinds} of {domain!r}, which need a library that bundles don't have"
        )


def _leave_sizes_open(graph: onnx.GraphProto) -> None:
    """Leave sizes open, in place, that a file gives as 0 or, as PaddlePaddle's do, as -1."""
    for item in (*graph.input, *graph.output, *graph.value_info):
        for dim in item.type.tensor_type.shape.dim:
            if dim.HasField("dim_value") and dim.dim_value <= 0:
                dim.Clear()


def _put_in_order(model: onnx.ModelProto) -> None:
    """Let each node follow those that make what it reads, in place: ONNX asks for it, and ONNX Runtime runs others too."""
    makers = {name: i for i, node in enumerate(model.graph.node) for name in node.output if name}
    before = {i: {makers[name] for name in reads(node) if name in makers} for i, node in enumerate(model.graph.node)}
    if all(maker < i for i, needed in before.items() for maker in needed):
        return
    nodes = list(model.graph.node)
    with suppress(CycleError):  # of which ONNX Runtime has said what there is to say
        replace_nodes(model.graph, [nodes[i] for i in TopologicalSorter(before).static_order()])


def lift_constants(model: onnx.ModelProto) -> None:
    """Make initializers of Constant nodes, in place."""
    kept = []
    for node in model.graph.node:
        value = _constant_value(node)
        if value is None:
            kept.append(node)
        else:
            model.graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
    replace_nodes(model.graph, kept)


def fold(model: onnx.ModelProto) -> None:
    """Compute what depends on constants alone, in place; what then is unused is pruned."""
    values = {tensor.name: tensor for tensor in model.graph.initializer}
    outputs = {output.name for output in model.graph.output}
    kept = []
    for node in model.graph.node:
        foldable = node.domain in _STANDARD and not any(word in node.op_type for word in _KEPT)
        foldable = foldable and len(node.input) > 0 and outputs.isdisjoint(node.output) and len(node.output) == 1
        if not foldable or not all(not name or name in values for name in node.input):
            kept.append(node)
            continue
        inputs = {name: numpy_helper.to_array(values[name]) for name in node.input if name}
        _check_growth(node, inputs)
        value = computed(node, inputs, model)
        if value is None or value.size > _MAX_FOLDED:
            kept.append(node)
            continue
        tensor = numpy_helper.from_array(value, node.output[0])
        model.graph.initializer.append(tensor)
        values[tensor.name] = tensor
    replace_nodes(model.graph, kept)
    prune(model)


def rename(model: onnx.ModelProto, names: Mapping[str, str]) -> None:
    """Give tensors other names, wherever they are read or made, in place."""
    _rename(model.graph, names)


def tensor_names(model: onnx.ModelProto) -> set[str]:
    """The names of all tensors, those of subgraphs too."""
    return set(_names(model.graph))


def unused(wanted: str, taken: Iterable[str]) -> str:
    """A name like the one wanted that is not taken."""
    known = set(taken)
    return next(name for i in range(len(known) + 1) if (name := wanted if i == 0 else f"{wanted}_{i}") not in known)


def dequantised(node: onnx.NodeProto, values: list[Any]) -> npt.NDArray[np.float32]:
    """What DequantizeLinear makes of constants: (x - zero point) * scale, along its axis or by blocks of it."""
    x, scale, zero = np.asarray(values[0]), np.asarray(values[1]), np.asarray(values[2] if len(values) > 2 else 0)
    if scale.ndim == x.ndim and (block := attributes(node).get("block_size", 0)):
        axis = attributes(node).get("axis", 1)
        places = np.arange(x.shape[axis]) // block
        scale, zero = np.take(scale, places, axis), np.take(zero, places, axis) if zero.ndim else zero
    elif scale.ndim and scale.size > 1:
        axis = attributes(node).get("axis", 1)
        shape = [-1 if i == axis % x.ndim else 1 for i in range(x.ndim)]
        scale, zero = scale.reshape(shape), zero.reshape(shape) if zero.size > 1 else zero
    return ((x.astype(np.float64) - zero.astype(np.float64)) * scale.astype(np.float64)).astype(np.float32)


def _constant_value(node: onnx.NodeProto) -> npt.NDArray[Any] | None:
    if node.op_type != "Constant" or node.domain not in _STANDARD:
        return None
    (name, value), *_ = attributes(node).items()
    if name == "value":
        return np.asarray(numpy_helper.to_array(value))
    kinds: dict[str, Any] = {"value_int": np.int64, "value_ints": np.int64, "value_float": np.float32}
    kinds["value_floats"] = np.float32
    return np.asarray(value, dtype=kinds[name]) if name in kinds else None


def computed(
    node: onnx.NodeProto, inputs: dict[str, npt.NDArray[Any]], model: onnx.ModelProto
) -> npt.NDArray[Any] | None:
    """What a node with one output makes of constants; None where onnx's own evaluator can't say."""
    info = [
        helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for k, v in inputs.items()
    ]
    graph = helper.make_graph([node], "constants", info, [onnx.ValueInfoProto(name=node.output[0])])
    try:
        (value,) = ReferenceEvaluator(helper.make_model(graph, opset_imports=list(model.opset_import))).run(
            None, inputs
        )
    except Exception:  # whatever the evaluator can't do stays in the graph
        return None
    return np.asarray(value)


def _check_growth(node: onnx.NodeProto, inputs: Mapping[str, npt.NDArray[Any]]) -> None:
    """Raises ExportError for a constant that is larger than any model."""
    if node.op_type in _GROWING:
        sizes = [int(size) for size in inputs[node.input[_GROWING[node.op_type]]].reshape(-1)]
        if math.prod(sizes) > _MAX_GROWN:
            raise ExportError(f"{node.name or node.output[0]} ({node.op_type}) asks for a constant of {sizes}")


def _forget_overridable(graph: onnx.GraphProto) -> None:
    """Initializers are no inputs, as they had to be before IR version 4."""
    constants = {tensor.name for tensor in graph.initializer}
    kept = [item for item in graph.input if item.name not in constants]
    del graph.input[:]
    graph.input.extend(kept)


def _open_quantised(model: onnx.ModelProto) -> None:
    """ONNX Runtime's activations of 8 bits as ones of numbers, between two changes of precision."""
    nodes = []
    for node in model.graph.node:
        if node.op_type not in _OPENED:
            nodes.append(node)
            continue
        x, scale, zero, y_scale, y_zero = [*node.input, ""][:5]
        inside, outside = f"{x}/numbers", f"{node.output[0]}/numbers"
        options = {"axis": attributes(node).get("axis", -1)} if node.op_type == "QLinearSoftmax" else {}
        nodes.append(helper.make_node("DequantizeLinear", [x, scale, zero], [inside]))
        nodes.append(helper.make_node(_OPENED[node.op_type], [inside], [outside], **options))
        last = [outside, y_scale, y_zero] if y_zero else [outside, y_scale]
        nodes.append(helper.make_node("QuantizeLinear", last, [node.output[0]]))
    replace_nodes(model.graph, nodes)


def _forget_dropout(graph: onnx.GraphProto) -> None:
    """A Dropout that is not of training passes its input on."""
    for node in graph.node:
        if node.op_type == "Dropout" and len(node.input) < 3:
            kept = helper.make_node("Identity", [node.input[0]], [node.output[0]], node.name)
            node.CopyFrom(kept)


def replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Let a graph have these nodes, some of them its own."""
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _names(graph: onnx.GraphProto) -> Iterator[str]:
    for node in graph.node:
        yield from filter(None, (*node.input, *node.output))
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                yield from _names(body)
    yield from (item.name for item in (*graph.initializer, *graph.input, *graph.output))


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    for node in graph.node:
        for field in (node.input, node.output):
            for i, name in enumerate(field):
                field[i] = names.get(name, name)
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                _rename(body, names)
    for item in (*graph.initializer, *graph.input, *graph.output, *graph.value_info):
        item.name = names.get(item.name, item.name)
