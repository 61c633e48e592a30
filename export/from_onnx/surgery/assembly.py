"""The graph for a gate, made of a foreign one: pixels in front, logits and penultimate activations behind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, version_converter

from export.exceptions import ExportError
from export.from_onnx.last_layer import LastLayer, Source
from export.from_onnx.surgery import batch
from export.from_onnx.surgery.network import Network, fold, lift_constants, rename, tensor_names
from export.from_onnx.surgery.pixels import IMAGES, Pixels
from export.graph.building import LOGITS, OPSET, PENULTIMATE, Graph, prune
from export.graph.session import reason

_IR_VERSION = 10
_PREFIX = "network/"  # of what is the file's own, so that no name of it is one of ours


@dataclass(frozen=True)
class Tensor:
    """A tensor of the foreign graph as it is for one image.

    Attributes:
        dtype: of its elements, as ONNX counts them.
        shape: with one row an image in front.
    """

    dtype: int
    shape: tuple[int, ...]


def assemble(
    network: Network,
    pixels: Pixels,
    images: int,
    layer: LastLayer,
    logits: str | None,
    column: int | None,
    tensors: dict[str, Tensor],
) -> onnx.ModelProto:
    """Images in; logits and penultimate activations out.

    Args:
        network: plain.
        pixels: what it takes.
        images: the batch that it was written down for.
        layer: the last.
        logits: the tensor of logits, where they are not written anew; None for features without classes.
        column: of the logit that alone is taken; None for all of them.
        tensors: what the sources and the logits are.

    Raises:
        ExportError: operators that can't be brought to the version that is needed, or images that are mixed.
    """
    needed = dict.fromkeys(source.tensor for source in layer.sources)
    if not layer.exact and logits is not None:
        needed |= {logits: None}
    model = _modern(_trunk(network.model, list(needed), pixels, images, tensors), network.opset)
    batch.generalise(model, images)
    names = _own_names(model)
    pixels_in_graph = Pixels(
        pixels.spec, names.get(pixels.tensor, pixels.tensor), pixels.dtype, pixels.layout, pixels.flat
    )
    pixels_in_graph.put_in_front(model.graph)
    del model.graph.output[:]
    read = {pixels.tensor: IMAGES} if not _made(model, pixels_in_graph.tensor) else {}
    g = Graph(model)
    parts = [_activations(g, source, names | read, tensors[source.tensor]) for source in layer.sources]
    if len(parts) > 1:
        g.op("Concat", *parts, output=PENULTIMATE, axis=1)
    else:
        g.op("Identity", parts[0], output=PENULTIMATE)
    if layer.exact and layer.weights is not None and layer.bias is not None:
        weights: npt.NDArray[np.floating] = np.concatenate(layer.weights, axis=1)
        bias: npt.NDArray[np.floating] = layer.bias
        if column is not None:
            weights, bias = weights[column : column + 1], bias[column : column + 1]
        g.op("Gemm", PENULTIMATE, g.float32(weights), g.float32(bias), output=LOGITS, transB=1)
        g.declare_output(LOGITS, TensorProto.FLOAT, ("N", len(bias)))
    elif logits is not None:
        classes = _logits(g, names.get(logits, logits), tensors[logits], column)
        g.declare_output(LOGITS, TensorProto.FLOAT, ("N", classes))
    g.declare_output(PENULTIMATE, TensorProto.FLOAT, ("N", sum(width(s, tensors[s.tensor]) for s in layer.sources)))
    prune(model)
    _forget_origin(model)
    return model


def width(source: Source, tensor: Tensor) -> int:
    """D."""
    return tensor.shape[-1] if source.last or len(tensor.shape) < 3 else tensor.shape[1]


def pooled_axes(source: Source, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of a tensor of activations beside the image's and the activations' own."""
    if len(shape) < 3:
        return ()
    return tuple(range(1, len(shape) - 1)) if source.last else tuple(range(2, len(shape)))


def _trunk(
    model: onnx.ModelProto, outputs: list[str], pixels: Pixels, images: int, tensors: dict[str, Tensor]
) -> onnx.ModelProto:
    """A copy with these outputs, and the input's shape written out."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.ir_version = max(model.ir_version, _IR_VERSION)  # where an initializer need not be an input
    del copy.graph.output[:], copy.graph.value_info[:]
    made = [name for name in outputs if name != pixels.tensor]
    copy.graph.output.extend(helper.make_tensor_value_info(name, tensors[name].dtype, None) for name in made)
    example = pixels.array(np.zeros((1, pixels.spec.height, pixels.spec.width, 3), np.uint8))
    shape = helper.make_tensor_value_info("", pixels.dtype, (images, *example.shape[1:])).type
    copy.graph.input[0].type.CopyFrom(shape)
    prune(copy)
    return copy


def _modern(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """The same with the operators' version that the scores need, or a later one."""
    if opset < OPSET and model.graph.node:
        try:
            model = version_converter.convert_version(model, OPSET)
        except Exception as error:  # the converter's, which has no public base
            raise ExportError(
                f"its operators of version {opset} can't be brought to {OPSET}: {reason(error)}; "
                f"export the model again with opset {OPSET}"
            ) from error
    lift_constants(model)
    fold(model)
    used = {node.domain for node in model.graph.node} - {"", "ai.onnx"}
    others = [item for item in model.opset_import if item.domain in used]
    imports = [helper.make_opsetid("", max(opset, OPSET)), *others]
    del model.opset_import[:]
    model.opset_import.extend(imports)
    return model


def _own_names(model: onnx.ModelProto) -> dict[str, str]:
    """Give every node a name that no other has, and tensors and nodes names that none of ours have; returns the tensors'."""
    names = {name: f"{_PREFIX}{name}" for name in tensor_names(model)}
    rename(model, names)
    taken = set[str]()
    for node in model.graph.node:
        wanted = _PREFIX + (node.name or node.output[0].removeprefix(_PREFIX))
        node.name = wanted if wanted not in taken else f"{wanted}/{len(taken)}"
        taken.add(node.name)
    return names


def _activations(g: Graph, source: Source, names: dict[str, str], tensor: Tensor) -> str:
    """Append float32 [N, D] of a source."""
    name = names.get(source.tensor, source.tensor)
    if source.scale is not None:
        quantisation = [names.get(item, item) for item in (source.scale, source.zero_point) if item]
        name = g.op("DequantizeLinear", name, *quantisation)
    elif tensor.dtype != TensorProto.FLOAT:
        name = g.op("Cast", name, to=TensorProto.FLOAT)
    axes = pooled_axes(source, tensor.shape)
    if any(tensor.shape[axis] > 1 for axis in axes):
        return g.op("ReduceMean", name, g.constant(np.array(axes)), keepdims=0)
    return g.op("Flatten", name, axis=1) if axes else name


def _logits(g: Graph, name: str, tensor: Tensor, column: int | None) -> int:
    """Append float32 [N, K] of a tensor of logits; returns K."""
    if tensor.dtype != TensorProto.FLOAT:
        name = g.op("Cast", name, to=TensorProto.FLOAT)
    if len(tensor.shape) != 2:
        name = g.op("Flatten", name, axis=1)
    if column is None:
        g.op("Identity", name, output=LOGITS)
        return int(np.prod(tensor.shape[1:]))
    g.op("Gather", name, g.constant(np.array([column])), output=LOGITS, axis=1)
    return 1


def _made(model: onnx.ModelProto, name: str) -> bool:
    return any(name in node.output for node in model.graph.node)


def _forget_origin(model: onnx.ModelProto) -> None:
    """Take out what an exporter noted of where it ran, and what the file said of itself."""
    del model.metadata_props[:], model.graph.value_info[:]
    model.graph.doc_string = model.doc_string = ""
    graph = model.graph
    for noted in (graph, *graph.node, *graph.initializer):
        del noted.metadata_props[:]
        noted.doc_string = ""
