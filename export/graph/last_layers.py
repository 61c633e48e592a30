"""The part of a graph that makes logits of the penultimate activations, to be run on other activations."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from export.exceptions import ExportError
from export.graph.building import LOGITS, PENULTIMATE, Graph

Array = npt.NDArray[np.float64]

_IMAGES = "images"
_RENAMING = {"Identity", "Cast"}


class LastLayers:
    """The nodes between ``penultimate`` and ``logits``: one linear layer, or a projection head of any kind.

    Args:
        model: with the outputs ``logits`` [N, K] and ``penultimate`` [N, D].

    Raises:
        ExportError: logits that don't follow from the penultimate activations alone.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._producers = {name: node for node in model.graph.node for name in node.output}
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self._model = model
        self._source = self._behind(PENULTIMATE)
        self._nodes = self._between()

    def linear(self) -> tuple[Array, Array]:
        """Weights (K, D) and bias (K,) of the last layer, where there is no other.

        Raises:
            ExportError: there are others.
        """
        last = self._producers.get(self._behind(LOGITS))
        if last is not None and last.op_type == "Gemm" and self._behind(last.input[0]) == self._source:
            attributes = {item.name: helper.get_attribute_value(item) for item in last.attribute}
            if not attributes.get("transA", 0) and last.input[1] in self._constants:
                weights = self._constant(last.input[1]) * attributes.get("alpha", 1.0)
                bias = self._constant(last.input[2]) * attributes.get("beta", 1.0) if len(last.input) > 2 else 0.0
                return _layer(weights if attributes.get("transB", 0) else weights.T, bias)
        bias = np.zeros(1)
        if last is not None and last.op_type == "Add":
            constant, rest = sorted(last.input, key=lambda name: name not in self._constants)
            if constant in self._constants:
                bias, last = self._constant(constant), self._producers.get(self._behind(rest))
        plain = last is not None and last.op_type == "MatMul" and self._behind(last.input[0]) == self._source
        if last is not None and plain and last.input[1] in self._constants:
            return _layer(self._constant(last.input[1]).T, bias)
        raise ExportError("the logits are not a plain linear layer of the penultimate activations")

    @property
    def is_linear(self) -> bool:
        """Whether :meth:`linear` has an answer."""
        try:
            self.linear()
        except ExportError:
            return False
        return True

    def __call__(self, penultimate: npt.NDArray[np.floating]) -> Array:
        """Logits (N, K) of other activations (N, D), in float64 throughout."""
        sizes = [dim.dim_value for dim in self._model.graph.input[0].type.tensor_type.shape.dim[1:]]
        images = np.broadcast_to(np.uint8(0), (len(penultimate), *sizes))  # whose number some heads ask for
        feeds = {self._source: np.asarray(penultimate, dtype=np.float64), _IMAGES: images}
        with np.errstate(invalid="ignore"):  # it divides a row of zeros by its norm before it puts zeros there
            (logits,) = self._in_float64().run(None, feeds)
        return np.asarray(logits, dtype=np.float64)

    def append(self, g: Graph, penultimate: str) -> str:
        """Append a copy that takes another tensor of activations; returns the name of its logits."""
        renamed = {self._source: penultimate}
        if self._source != PENULTIMATE:
            renamed[self._source] = g.op("CastLike", penultimate, self._source)
        for node in self._nodes:
            if not any(name in renamed for name in node.input):
                continue  # not a function of the activations: shared
            attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
            inputs = [renamed.get(name, name) for name in node.input]
            renamed[node.output[0]] = g.op(node.op_type, *inputs, **attributes)
        return renamed[LOGITS]

    def _behind(self, name: str) -> str:
        """The tensor that `name` is another name, or another precision, of."""
        while name in self._producers and self._producers[name].op_type in _RENAMING:
            name = self._producers[name].input[0]
        return name

    def _between(self) -> list[onnx.NodeProto]:
        """What the logits need beside constants and the activations, in the graph's order."""
        wanted, needed = [LOGITS], set[str]()
        while wanted:
            name = wanted.pop()
            if name in needed or name == self._source or name not in self._producers:
                continue
            needed.add(name)
            node = self._producers[name]
            wanted += node.input
            if _IMAGES in node.input and node.op_type != "Shape":
                raise ExportError("the logits need more of the image than the penultimate activations")
        nodes = [node for node in self._model.graph.node if needed & set(node.output)]
        if not any(self._source in node.input for node in nodes):
            raise ExportError("the logits are no function of the penultimate activations")
        return nodes

    def _constant(self, name: str) -> Array:
        return numpy_helper.to_array(self._constants[name]).astype(np.float64)

    def _in_float64(self) -> ReferenceEvaluator:
        nodes = []
        for node in self._nodes:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            for attribute in copy.attribute:
                if attribute.name == "to" and attribute.i in (TensorProto.FLOAT, TensorProto.FLOAT16):
                    attribute.i = TensorProto.DOUBLE
            nodes.append(copy)
        used = {name for node in nodes for name in node.input}
        constants = []
        for name in sorted(used & self._constants.keys()):
            value = numpy_helper.to_array(self._constants[name])
            constants.append(
                numpy_helper.from_array(value.astype(np.float64) if value.dtype.kind == "f" else value, name)
            )
        inputs = [
            helper.make_tensor_value_info(self._source, TensorProto.DOUBLE, None),
            helper.make_tensor_value_info(_IMAGES, TensorProto.UINT8, None),
        ]
        outputs = [helper.make_tensor_value_info(LOGITS, TensorProto.DOUBLE, None)]
        graph = helper.make_graph(nodes, "last_layers", inputs, outputs, constants)
        return ReferenceEvaluator(helper.make_model(graph, opset_imports=list(self._model.opset_import)))


def _layer(weights: Array, bias: Array | float) -> tuple[Array, Array]:
    return weights, np.broadcast_to(np.asarray(bias, dtype=np.float64).ravel(), weights.shape[:1]).copy()
