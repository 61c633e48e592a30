"""Building blocks of an ONNX graph: appending nodes to a model that exists, and editing its constants."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

OPSET = 18
METADATA_KEY = "oodgate"
# The outputs of the network, which scores are made of.
LOGITS, PENULTIMATE = "logits", "penultimate"

# What is appended is called so; a constant of another name may be given another value later.
PREFIX = "head/"
_OUTPUTS = {"TopK": 2}


class Graph:
    """Appends nodes to a model; the same operation on the same inputs is added once and shared.

    What an earlier Graph of the same prefix appended to the model is shared too.
    """

    def __init__(self, model: onnx.ModelProto, prefix: str = PREFIX) -> None:
        self.model = model
        self._prefix = prefix
        self._known: dict[Any, str] = {}
        self._numbers = count()
        self._taken = {name for node in model.graph.node for name in node.output}
        self._taken |= {tensor.name for tensor in model.graph.initializer}
        for tensor in model.graph.initializer:
            if tensor.name.startswith(f"{prefix}constant_"):
                self._known[_constant_key(numpy_helper.to_array(tensor), None)] = tensor.name
        for node in model.graph.node:
            if node.name.startswith(prefix):
                attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
                self._known[_node_key(node.op_type, node.input, None, attributes)] = node.output[0]

    def op(self, kind: str, *inputs: str | float, output: str | None = None, **attributes: Any) -> str:
        """Append a node and return the name of its output, the first if it has several.

        Args:
            kind: ONNX operator.
            inputs: names of tensors, or numbers, which become float32 scalars.
            output: the name wanted; made up otherwise.
            attributes: of the operator.
        """
        names = [item if isinstance(item, str) else self.constant(np.float32(item)) for item in inputs]
        key = _node_key(kind, names, output, attributes)
        if key not in self._known:
            name = output or self._unused(kind)
            outputs = [name, *(f"{name}_{i}" for i in range(1, _OUTPUTS.get(kind, 1)))]
            self.model.graph.node.append(helper.make_node(kind, names, outputs, name=name, **attributes))
            self._known[key] = name
        return self._known[key]

    def constant(self, value: npt.ArrayLike, name: str | None = None) -> str:
        """Add an initializer and return its name."""
        array = np.asarray(value)
        key = _constant_key(array, name)
        if key not in self._known:
            name = name or self._unused("constant")
            self.model.graph.initializer.append(numpy_helper.from_array(array, name))
            self._known[key] = name
        return self._known[key]

    def float32(self, value: npt.ArrayLike) -> str:
        """:meth:`constant`, rounded to float32."""
        return self.constant(np.asarray(value, dtype=np.float32))

    def reduce(self, kind: str, tensor: str, *, keepdims: bool = True) -> str:
        """A reduction over axis 1: (N, X) -> (N, 1), or (N,) without `keepdims`."""
        return self.op(kind, tensor, self.constant(np.array([1])), keepdims=int(keepdims))

    def _unused(self, kind: str) -> str:
        return next(name for number in self._numbers if (name := f"{self._prefix}{kind}_{number}") not in self._taken)

    def declare_output(self, name: str, dtype: int, shape: tuple[str | int, ...]) -> None:
        """Make a tensor an output of the graph."""
        self.model.graph.output.append(helper.make_tensor_value_info(name, dtype, shape))


def remove_input(model: onnx.ModelProto, name: str) -> None:
    """Remove an input of the graph; what reads it has to get it from elsewhere."""
    index = next(i for i, item in enumerate(model.graph.input) if item.name == name)
    del model.graph.input[index]


def remove_node(model: onnx.ModelProto, output: str) -> onnx.NodeProto:
    """Remove the node that makes tensor `output`, and return it; what only it used is left for :func:`prune`."""
    index, node = next((i, node) for i, node in enumerate(model.graph.node) if output in node.output)
    removed = onnx.NodeProto()
    removed.CopyFrom(node)
    del model.graph.node[index]
    return removed


def prune(model: onnx.ModelProto) -> None:
    """Remove nodes, and initializers with their inputs, that no output of the graph depends on."""
    graph = model.graph
    needed = {output.name for output in graph.output}
    for index in reversed(range(len(graph.node))):
        if needed.isdisjoint(graph.node[index].output):
            del graph.node[index]
        else:
            needed.update(reads(graph.node[index]))
    constants = {tensor.name for tensor in graph.initializer}
    for items in (graph.initializer, graph.input):
        for index in reversed(range(len(items))):
            if items[index].name in constants - needed:
                del items[index]


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """The tensors that a node depends on, those in the bodies of branches and loops included."""
    yield from node.input
    for attribute in node.attribute:
        for body in (attribute.g, *attribute.graphs):
            yield from (output.name for output in body.output)
            for inner in body.node:
                yield from reads(inner)


def set_metadata(model: onnx.ModelProto, manifest_json: str) -> None:
    """Store the manifest in the model's metadata."""
    helper.set_model_props(model, {METADATA_KEY: manifest_json})


def _node_key(kind: str, inputs: Iterable[str], output: str | None, attributes: Mapping[str, Any]) -> Any:
    return (kind, *inputs, *((name, str(value)) for name, value in sorted(attributes.items())), output)


def _constant_key(array: npt.NDArray[Any], name: str | None) -> Any:
    digest = hashlib.sha256(np.ascontiguousarray(array).data).digest()
    return ("constant", array.dtype.str, array.shape, digest, name)
