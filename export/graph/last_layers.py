"""The part of a graph that makes logits of the penultimate activations, to be run on other activations."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from export.exceptions import ExportError, NotApplicable
from export.graph.building import LOGITS, PENULTIMATE, Graph

Array = npt.NDArray[np.float64]

_IMAGES = "images"
_RENAMING = {"Identity", "Cast"}
_OF_NORMS = {"Clip", "Expand", "Identity", "Cast", "Max"}
_NO_CHAIN = "the logits are no product of linear layers of the penultimate activations"


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
            NotApplicable: there are others.
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
        raise NotApplicable("the logits are not a plain linear layer of the penultimate activations")

    def composed(self) -> Array:
        """C (K, D), the product of the linear layers (NAN eq. 2), of which some may be followed by a normalisation.

        The logits are C a + c over a positive number of each image; that of a single linear layer is its weights.

        Raises:
            NotApplicable: there are other layers.
        """
        chain: dict[str, Array | None] = {self._source: None}  # the products so far; None: the activations themselves
        norms: set[str] = set()  # tensors of one positive number an image
        for node in self._nodes:
            behind = [name for name in node.input if name in chain]
            if not behind:
                if node.op_type in _OF_NORMS and node.input[0] in norms:
                    norms.add(node.output[0])
            elif len(behind) > 1:
                raise NotApplicable(_NO_CHAIN)
            elif node.op_type == "ReduceL2":
                norms.add(node.output[0])
            else:
                factor, before = self._factor(node, behind[0], norms), chain[behind[0]]
                chain[node.output[0]] = before if factor is None else factor if before is None else factor @ before
        product = chain.get(LOGITS)
        if product is None:
            raise NotApplicable(_NO_CHAIN)
        return product

    def _factor(self, node: onnx.NodeProto, source: str, norms: set[str]) -> Array | None:
        """The matrix that a node multiplies a tensor of the chain by; None for positive numbers, and for what it adds."""
        attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        other = next((name for name in node.input if name != source), "")
        constant = self._constant(other) if other in self._constants else None
        scaled = other in norms or (constant is not None and bool((constant > 0).all()) and constant.size == 1)
        if node.op_type in _RENAMING or node.op_type == "LpNormalization" or (node.op_type == "Mul" and scaled):
            return None
        if node.op_type == "Add" and constant is not None:
            return None
        if node.input[0] == source and node.op_type == "Div" and scaled:
            return None
        linear = node.op_type in ("Gemm", "MatMul") and node.input[0] == source and constant is not None
        if not linear or constant is None or attributes.get("transA", 0) or attributes.get("alpha", 1.0) <= 0:
            raise NotApplicable(_NO_CHAIN)
        return constant if attributes.get("transB", 0) else constant.T

    @property
    def is_linear(self) -> bool:
        """Whether :meth:`linear` has an answer."""
        try:
            self.linear()
        except NotApplicable:
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


def last_layers(model: onnx.ModelProto) -> LastLayers | None:
    """Those of a graph; None where its logits don't follow from the penultimate activations alone."""
    try:
        return LastLayers(model)
    except ExportError:
        return None


def _layer(weights: Array, bias: Array | float) -> tuple[Array, Array]:
    return weights, np.broadcast_to(np.asarray(bias, dtype=np.float64).ravel(), weights.shape[:1]).copy()
