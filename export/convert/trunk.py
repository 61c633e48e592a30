"""The trunk: the part of a graph that makes the penultimate activations, which alone changes its precision."""

from __future__ import annotations

import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from export.exceptions import ExportError
from export.graph.building import PENULTIMATE, prune

LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators that multiply with weights."""


def extract(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the trunk: everything that ``penultimate`` depends on, with the types of its tensors.

    Its outputs are ``penultimate`` and whatever else the rest of the graph reads of it.
    """
    trunk = onnx.ModelProto()
    trunk.CopyFrom(model)
    _keep_outputs(trunk, {PENULTIMATE})
    prune(trunk)
    made = _made(trunk)
    read = {name for node in model.graph.node if made.isdisjoint(node.output) for name in node.input}
    read |= {output.name for output in model.graph.output}
    if shared := sorted(made & read - {PENULTIMATE}):
        trunk.graph.output.extend(onnx.ValueInfoProto(name=name) for name in shared)
    trunk = onnx.shape_inference.infer_shapes(trunk, strict_mode=True)
    trunk.graph.value_info.extend(_behind_own_operators(trunk))
    return trunk


def replace(model: onnx.ModelProto, trunk: onnx.ModelProto, other: onnx.ModelProto) -> None:
    """Put `other`, made of `trunk`, into the graph that `trunk` was extracted from, in place."""
    made = _made(trunk)
    rest = [node for node in model.graph.node if made.isdisjoint(node.output)]
    del model.graph.node[:]
    model.graph.node.extend([*other.graph.node, *rest])
    own = {tensor.name for tensor in other.graph.initializer} | _made(other)  # a quantised bias is made by a node
    others = [tensor for tensor in model.graph.initializer if tensor.name not in own]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*others, *other.graph.initializer])
    del model.graph.value_info[:]
    prune(model)


def layers(trunk: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes with weights, in order.

    Raises:
        ExportError: there is none.
    """
    weighted = [node for node in trunk.graph.node if node.op_type in LAYERS]
    if not weighted:
        raise ExportError("no convolution or linear layer before the penultimate activations: export it as fp32")
    return weighted


def behind_first_layer(trunk: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The layers and all that depends on one of them, in order: everything but the normalisation of the images."""
    reached = {name for node in layers(trunk) for name in node.output}
    nodes = []
    for node in trunk.graph.node:
        if not reached.isdisjoint((*node.input, *node.output)):
            reached.update(node.output)
            nodes.append(node)
    return nodes


def float32_tensors(trunk: onnx.ModelProto) -> set[str]:
    """The tensors of type float32 that nodes make."""
    return {name for name, kind in _types(trunk).items() if kind == TensorProto.FLOAT}


def _types(trunk: onnx.ModelProto) -> dict[str, int]:
    known = (*trunk.graph.value_info, *trunk.graph.output)
    return {item.name: item.type.tensor_type.elem_type for item in known if item.type.tensor_type.elem_type}


def _behind_own_operators(trunk: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The float32 tensors that onnx knows no type of, as they follow from an operator of ONNX Runtime's own."""
    unknown = sorted(_made(trunk) - _types(trunk).keys())
    if not unknown:
        return []
    asked = onnx.ModelProto()
    asked.CopyFrom(trunk)
    outputs = {output.name for output in trunk.graph.output}
    asked.graph.output.extend(onnx.ValueInfoProto(name=name) for name in unknown if name not in outputs)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    found = ort.InferenceSession(asked.SerializeToString(), options, providers=["CPUExecutionProvider"]).get_outputs()
    floats = [item.name for item in found if item.type == "tensor(float)" and item.name in unknown]
    return [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in floats]


def _made(model: onnx.ModelProto) -> set[str]:
    return {name for node in model.graph.node for name in node.output if name}


def _keep_outputs(model: onnx.ModelProto, names: set[str]) -> None:
    kept = [output for output in model.graph.output if output.name in names]
    del model.graph.output[:]
    model.graph.output.extend(kept)
