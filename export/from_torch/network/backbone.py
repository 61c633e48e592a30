"""A torch network as an ONNX graph: images in; logits and penultimate activations out."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any, cast

import onnx
import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind, OutputSpec, TensorArgument
from torch.utils import _pytree as pytree

from export.exceptions import ExportError
from export.from_torch.network import failures
from export.from_torch.network.faces import Face
from export.from_torch.network.penultimate import concatenated, operation, pooled, read
from export.graph.building import LOGITS, OPSET, PENULTIMATE, prune
from runtime.manifest import InputSpec

# Ends of a network that the export takes off, and says so.
_TAKEN_OFF = frozenset({"softmax", "_softmax", "log_softmax", "_log_softmax", "sigmoid"})
_RESHAPING = frozenset({"to", "_to_copy", "float", "squeeze", "reshape", "view", "flatten"})


class Backbone(nn.Module):
    """uint8 images [N, H, W, 3] -> float32 logits [N, K], or (logits, penultimate [N, D]) where the network returns two."""

    def __init__(self, classifier: nn.Module, spec: InputSpec, *, channels_last: bool = False) -> None:
        super().__init__()
        self.face = Face(spec, channels_last=channels_last)
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        outputs = self.classifier(self.face(images))
        if isinstance(outputs, Tensor):
            return outputs.float()
        logits, penultimate = outputs
        return logits.float(), penultimate.float()


@dataclass(frozen=True)
class Traced:
    """A network's operations behind one input, which return (logits, penultimate), and how the second was found."""

    program: ExportedProgram
    spec: InputSpec
    remarks: tuple[str, ...] = ()


def trace(backbone: Backbone, spec: InputSpec) -> Traced:
    """The operations of a network for any number of images.

    Raises:
        ExportError: it can't be traced, or there are no penultimate activations.
    """
    example = torch.zeros(2, spec.height, spec.width, 3, dtype=torch.uint8)
    program = _traced(backbone.eval(), example)
    output = program.graph.output_node()
    outputs = cast(tuple[fx.Node, ...], output.args[0])
    if len(outputs) == 2:
        return Traced(program, spec)
    found = read(program.graph, outputs[0])
    if not found.inputs:
        others = f", but {', '.join(dict.fromkeys(found.others))}" if found.others else ""
        raise ExportError(
            f"{type(backbone.classifier).__name__} has no linear layer before its logits{others}, so no penultimate "
            "activations; let its forward return (logits, penultimate)"
        )
    parts = [pooled(program.graph, *pair, found.chosen) for pair in zip(found.inputs, found.maps, strict=True)]
    _add_output(program, concatenated(program.graph, [node for node, _ in parts], output))
    remarks = dict.fromkeys(remark for _, remark in parts if remark)
    if len(parts) > 1:
        remarks[
            f"{len(parts)} linear layers make the logits: the penultimate activations are what each reads, side by side"
        ] = None
    bends = list(dict.fromkeys(found.bends))
    if bends and bends != [_end(outputs[0])]:
        remarks[
            f"{', '.join(bends)} between the last linear layer and the logits: they are no affine "
            "function of the penultimate activations"
        ] = None
    return Traced(program, spec, tuple(remarks))


def _end(node: fx.Node) -> str | None:
    """The activation that the logits are, if it is one that the export takes off."""
    while operation(node) in _RESHAPING and isinstance(node.args[0], fx.Node):
        node = node.args[0]
    return operation(node) if operation(node) in _TAKEN_OFF else None


def to_onnx(backbone: Backbone, spec: InputSpec) -> onnx.ModelProto:
    """Export with a dynamic batch dimension.

    Raises:
        ExportError: torch.export can't trace the model; the message carries its reason.
    """
    return graph_of(trace(backbone, spec).program)


def graph_of(program: ExportedProgram, *, logits: bool = True) -> onnx.ModelProto:
    """A traced network as ONNX, with its logits or without.

    Raises:
        ExportError: an operation has no counterpart in ONNX, or the batch no dynamic size.
    """
    _average_plainly(program)
    with quiet():
        try:
            converted = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                input_names=["images"],
                output_names=[LOGITS, PENULTIMATE],
                dynamic_shapes=({0: torch.export.Dim("N")},),  # for the name
                verbose=False,
            )
        except Exception as error:  # the exporter's exceptions share no public base
            raise ExportError(f"torch can't express the model in ONNX: {failures.reason(error)}") from error
    model = cast(onnx.ModelProto, cast(Any, converted).model_proto)
    if not logits:
        del model.graph.output[0]
        prune(model)
    for item in (*model.graph.input, *model.graph.output):
        batch = item.type.tensor_type.shape.dim[0]
        if not batch.dim_param:
            raise ExportError("torch.export can't trace the model: it takes batches of one size only")
    _forget_origin(model.graph)
    return model


def _average_plainly(program: ExportedProgram) -> None:
    """Write an adaptive pooling to one pixel as the mean that it is.

    Torch takes it for a mean and a change of strides, which in ONNX is a gathering by computed indices, on the CPU.
    """
    for node in list(program.graph.nodes):
        if operation(node) == "adaptive_avg_pool2d" and list(node.args[1]) == [1, 1]:
            with program.graph.inserting_before(node):
                mean = program.graph.call_function(torch.ops.aten.mean.dim, (node.args[0], [-2, -1], True))
            mean.meta = dict(node.meta)
            node.replace_all_uses_with(mean)
            program.graph.erase_node(node)
    program.graph_module.recompile()


@contextmanager
def _elementary_attention() -> Iterator[None]:
    """Transformers' encoder layers in operations that ONNX has, not in the one that torch's evaluation mode has of them."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _traced(module: nn.Module, example: Tensor) -> ExportedProgram:
    """By running it on symbols; where that fails, by reading its bytecode, as torch's own exporter tries both."""
    first: Exception | None = None
    for strict in (False, True):
        try:
            with quiet(), torch.no_grad(), _elementary_attention():
                program = torch.export.export(
                    module, (example,), dynamic_shapes=({0: torch.export.Dim("N")},), strict=strict
                )
        except Exception as error:  # torch.export's exceptions share no public base
            first = first or error
        else:
            return program
    raise ExportError(f"torch.export can't trace the model: {failures.reason(cast(Exception, first))}") from first


def _add_output(program: ExportedProgram, node: fx.Node) -> None:
    """Let a program of one output return a second: a copy, as a view of what is changed in place loses its name."""
    output, value = program.graph.output_node(), node.meta["val"]
    with program.graph.inserting_before(output):
        if value.dtype != torch.float32:
            node = program.graph.call_function(torch.ops.aten.to.dtype, (node, torch.float32))
        node = program.graph.call_function(torch.ops.aten.clone.default, (node,))
    with value.fake_mode:
        node.meta["val"] = value.float()
    output.args = ((*cast(tuple[fx.Node, ...], output.args[0]), node),)
    argument = TensorArgument(name=node.name)
    program.graph_signature.output_specs.append(OutputSpec(OutputKind.USER_OUTPUT, argument, None))
    signature = program.module_call_graph[0].signature
    if signature is not None:
        signature.outputs.append(argument)
        signature.out_spec = pytree.tree_flatten((0, 0))[1]
    program.graph.lint()
    program.graph_module.recompile()


@contextmanager
def quiet() -> Iterator[None]:
    """Without torch's log, its deprecations, and the graphs that it prints when it fails."""
    log = logging.getLogger("torch")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # the exporter's deprecations are not the user's
            yield
    finally:
        log.setLevel(level)


def _forget_origin(graph: onnx.GraphProto) -> None:
    """Take out what the exporter notes of where each node comes from: paths and lines of code on this machine."""
    for noted in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del noted.metadata_props[:]
