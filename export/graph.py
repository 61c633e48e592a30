"""Building blocks of an ONNX graph: appending nodes to a model that exists, and editing its constants."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

OPSET = 18
METADATA_KEY = "oodgate"


class Graph:
    """Appends nodes to a model; the same operation on the same inputs is added once and shared."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self._known: dict[Any, str] = {}

    def op(self, kind: str, *inputs: str | float, output: str | None = None, **attributes: Any) -> str:
        """Append a node and return the name of its output.

        Args:
            kind: ONNX operator.
            inputs: names of tensors, or numbers, which become float32 scalars.
            output: the name wanted; made up otherwise.
            attributes: of the operator.
        """
        names = [item if isinstance(item, str) else self.constant(np.float32(item)) for item in inputs]
        key = (kind, *names, *sorted(attributes.items()), output)
        if key not in self._known:
            name = output or f"head/{kind}_{len(self._known)}"
            self.model.graph.node.append(helper.make_node(kind, names, [name], name=name, **attributes))
            self._known[key] = name
        return self._known[key]

    def constant(self, value: npt.ArrayLike, name: str | None = None) -> str:
        """Add an initializer and return its name."""
        array = np.asarray(value)
        key = ("constant", array.dtype.str, array.shape, array.tobytes(), name)
        if key not in self._known:
            name = name or f"head/constant_{len(self._known)}"
            self.model.graph.initializer.append(numpy_helper.from_array(array, name))
            self._known[key] = name
        return self._known[key]

    def reduce(self, kind: str, tensor: str, *, keepdims: bool = True) -> str:
        """A reduction over axis 1: (N, X) -> (N, 1), or (N,) without `keepdims`."""
        return self.op(kind, tensor, self.constant(np.array([1])), keepdims=int(keepdims))

    def declare_output(self, name: str, dtype: int, shape: tuple[str | int, ...]) -> None:
        """Make a tensor an output of the graph."""
        self.model.graph.output.append(helper.make_tensor_value_info(name, dtype, shape))


def set_initializer(model: onnx.ModelProto, name: str, value: npt.NDArray[Any]) -> None:
    """Replace the value of an initializer."""
    (tensor,) = (item for item in model.graph.initializer if item.name == name)
    tensor.CopyFrom(numpy_helper.from_array(value, name))


def set_metadata(model: onnx.ModelProto, manifest_json: str) -> None:
    """Store the manifest in the model's metadata."""
    helper.set_model_props(model, {METADATA_KEY: manifest_json})
