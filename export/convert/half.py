"""fp16: the trunk's layers, and what works elementwise between them, in float16, written into the graph with its casts.

A TensorRT network is strongly typed: precision is what the graph says. What is no operator of the list below stays
float32 between two casts, such as means, softmaxes and layer normalisations, whose sums float16 would overflow or
round away; so do the normalisation of the images, the last linear layer, the scores and the gate.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.convert import trunk as trunks

# Of these, all floating-point inputs and outputs have one type, and the result is as exact as its inputs.
_CONVERTED = trunks.LAYERS | {
    *("Add", "Sub", "Mul", "Sum", "Neg", "Abs", "Min", "Max", "Clip", "Identity"),
    *("Relu", "LeakyRelu", "PRelu", "Elu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Gelu"),
    *("MaxPool", "AveragePool", "Pad", "Concat", "Split", "Slice", "Gather", "Expand", "Tile"),
    *("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "DepthToSpace", "SpaceToDepth"),
}
_SUFFIX = "/float16"
_LARGEST = float(np.finfo(np.float16).max)


def to_half(model: onnx.ModelProto) -> None:
    """Convert the trunk, in place.

    A tensor keeps its name where it is float32; its float16 twin is called ``NAME/float16``. Each is cast to the other
    once, and only where it is needed.

    Raises:
        ExportError: no layer to convert.
    """
    trunk = trunks.extract(model)
    half = onnx.ModelProto()
    half.CopyFrom(trunk)
    _Conversion(half, trunks.float32_tensors(trunk)).run({node.name for node in trunks.behind_first_layer(trunk)})
    trunks.replace(model, trunk, half)


class _Conversion:
    def __init__(self, model: onnx.ModelProto, tensors: set[str]) -> None:
        self._graph = model.graph
        self._tensors = tensors
        self._constants = {
            tensor.name: numpy_helper.to_array(tensor)
            for tensor in model.graph.initializer
            if tensor.data_type == TensorProto.FLOAT
        }
        self._nodes: list[onnx.NodeProto] = []
        self._halves: set[str] = set()

    def run(self, convertible: set[str]) -> None:
        for node in list(self._graph.node):
            standard = node.domain in ("", "ai.onnx") and node.op_type in _CONVERTED
            if node.name in convertible and standard and self._fits(node):
                self._convert(node)
            else:
                self._nodes.append(node)
        self._cast_back()
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)

    def _fits(self, node: onnx.NodeProto) -> bool:
        """Whether it computes float32 tensors, with constants that float16 can hold."""
        constants = (self._constants[name] for name in node.input if name in self._constants)
        return self._tensors.issuperset(node.output) and all((np.abs(value) <= _LARGEST).all() for value in constants)

    def _convert(self, node: onnx.NodeProto) -> None:
        converted = onnx.NodeProto()
        converted.CopyFrom(node)
        del converted.input[:], converted.output[:]
        converted.input.extend(self._half(name) for name in node.input)
        converted.output.extend(name + _SUFFIX for name in node.output)
        self._halves.update(node.output)
        self._nodes.append(converted)

    def _half(self, name: str) -> str:
        """The float16 twin of a tensor; the tensor itself where it is not float32."""
        if name not in self._tensors and name not in self._constants:
            return name
        if name not in self._halves:
            self._halves.add(name)
            if name in self._constants:
                value = self._constants[name].astype(np.float16)
                self._graph.initializer.append(numpy_helper.from_array(value, name + _SUFFIX))
            else:
                self._nodes.append(_cast(name, name + _SUFFIX, TensorProto.FLOAT16))
        return name + _SUFFIX

    def _cast_back(self) -> None:
        """Behind every node that was converted, a cast to float32; what nothing reads is pruned with the graph."""
        nodes = []
        for node in self._nodes:
            nodes.append(node)
            if node.op_type != "Cast" or not node.output[0].endswith(_SUFFIX):
                nodes += [
                    _cast(name, name.removesuffix(_SUFFIX), TensorProto.FLOAT)
                    for name in node.output
                    if name.endswith(_SUFFIX)
                ]
        self._nodes = nodes


def _cast(source: str, target: str, dtype: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"{target}/cast", to=dtype)
