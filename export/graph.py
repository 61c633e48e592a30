"""Building blocks of an ONNX graph: appending nodes to a model that exists, and editing its constants."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

OPSET = 18
METADATA_KEY = "oodgate"

# The names of what is appended; a constant of another name may be given another value later.
PREFIX = "head/"
_CONSTANT = f"{PREFIX}constant_"
_OUTPUTS = {"TopK": 2}


class Graph:
    """Appends nodes to a model; the same operation on the same inputs is added once and shared.

    What an earlier Graph appended to the model is shared too.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self._known: dict[Any, str] = {}
        names = [node.name for node in model.graph.node] + [tensor.name for tensor in model.graph.initializer]
        numbers = (name.rpartition("_")[2] for name in names if name.startswith(PREFIX))
        self._count = 1 + max((int(number) for number in numbers if number.isdigit()), default=-1)
        for tensor in model.graph.initializer:
            if tensor.name.startswith(_CONSTANT):
                self._known[_constant_key(numpy_helper.to_array(tensor), None)] = tensor.name
        for node in model.graph.node:
            if node.name.startswith(PREFIX):
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
            name = output or self._new(kind)
            outputs = [name, *(f"{name}_{i}" for i in range(1, _OUTPUTS.get(kind, 1)))]
            self.model.graph.node.append(helper.make_node(kind, names, outputs, name=name, **attributes))
            self._known[key] = name
        return self._known[key]

    def constant(self, value: npt.ArrayLike, name: str | None = None) -> str:
        """Add an initializer and return its name."""
        array = np.asarray(value)
        key = _constant_key(array, name)
        if key not in self._known:
            name = name or self._new("constant")
            self.model.graph.initializer.append(numpy_helper.from_array(array, name))
            self._known[key] = name
        return self._known[key]

    def float32(self, value: npt.ArrayLike) -> str:
        """:meth:`constant`, rounded to float32."""
        return self.constant(np.asarray(value, dtype=np.float32))

    def reduce(self, kind: str, tensor: str, *, keepdims: bool = True) -> str:
        """A reduction over axis 1: (N, X) -> (N, 1), or (N,) without `keepdims`."""
        return self.op(kind, tensor, self.constant(np.array([1])), keepdims=int(keepdims))

    def declare_output(self, name: str, dtype: int, shape: tuple[str | int, ...]) -> None:
        """Make a tensor an output of the graph."""
        self.model.graph.output.append(helper.make_tensor_value_info(name, dtype, shape))

    def _new(self, kind: str) -> str:
        self._count += 1
        return f"{PREFIX}{kind}_{self._count - 1}"


def set_initializer(model: onnx.ModelProto, name: str, value: npt.NDArray[Any]) -> None:
    """Replace the value of an initializer."""
    (tensor,) = (item for item in model.graph.initializer if item.name == name)
    tensor.CopyFrom(numpy_helper.from_array(value, name))


def set_metadata(model: onnx.ModelProto, manifest_json: str) -> None:
    """Store the manifest in the model's metadata."""
    helper.set_model_props(model, {METADATA_KEY: manifest_json})


def _node_key(kind: str, inputs: Iterable[str], output: str | None, attributes: Mapping[str, Any]) -> Any:
    return (kind, *inputs, *((name, str(value)) for name, value in sorted(attributes.items())), output)


def _constant_key(array: npt.NDArray[Any], name: str | None) -> Any:
    digest = hashlib.sha256(np.ascontiguousarray(array).data).digest()
    return ("constant", array.dtype.str, array.shape, digest, name)
