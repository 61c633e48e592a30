"""The penultimate activations: what the last affine maps before the logits read, found in the traced operations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, fx

_WEIGHTED = {"linear", "addmm", "matmul", "mm", "bmm", "einsum", "conv1d", "conv2d", "convolution"}
_PRODUCTS = {"mul", "mul_", "div", "div_"}
_SUMS = {"add", "add_", "sub", "sub_", "rsub"}
_NAMES = {"dropout", "dropout_", "feature_dropout", "alias", "detach", "detach_", "clone", "contiguous"}
_VIEWS = {"flatten", "view", "reshape", "squeeze", "to", "_to_copy", "type_as", "float", "expand"}
_TURNS = {"t", "transpose", "permute", "numpy_T"}
_OTHER_VIEWS = {"_unsafe_view", "unflatten", "unsqueeze", "movedim", "lift_fresh_copy"}
_PARTS = {"select", "slice", "narrow", "index", "index_select", "getitem"}
_LISTS = {"cat", "stack", "split", "split_with_sizes", "chunk", "unbind"}
_MEANS = {"neg", "sum", "mean", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "avg_pool2d"}
_NORMS = {"batch_norm", "_native_batch_norm_legit_no_training"}
# What keeps an affine function affine, while at most one argument depends on the image.
_AFFINE = _PRODUCTS | _SUMS | _NAMES | _VIEWS | _TURNS | _OTHER_VIEWS | _PARTS | _LISTS | _MEANS | _NORMS

_ACTIVATIONS = {"relu", "relu_", "relu6", "leaky_relu", "gelu", "silu", "silu_", "hardswish", "tanh", "softplus"}
_BOUNDS = {"hardtanh", "hardtanh_", "clamp", "clamp_", "clamp_min", "clamp_max", "maximum", "minimum"}
_PROBABILITIES = {"sigmoid", "softmax", "_softmax", "log_softmax", "_log_softmax", "logsigmoid", "log_sigmoid_forward"}
_FUNCTIONS = {"log", "exp", "pow", "sqrt", "linalg_vector_norm", "layer_norm"}
_LARGEST = {"max", "amax", "max_pool2d", "adaptive_max_pool2d"}
_GUARDS = {"where", "nan_to_num", "masked_fill", "round"}
# What may stand between the last affine map and the logits, which are no affine function of its input then.
_BENDING = _ACTIVATIONS | _BOUNDS | _PROBABILITIES | _FUNCTIONS | _LARGEST | _GUARDS


@dataclass
class Reading:
    """What was found on the way back from the logits.

    Attributes:
        inputs: of the last affine maps, without those found twice.
        maps: the affine maps themselves, in the same order.
        bends: operations after which the logits are no affine function of the inputs.
        chosen: where one position of many is taken after a map of each, the dimension and the index.
        others: operations that are neither, where the way back ended.
    """

    inputs: list[fx.Node] = field(default_factory=list)
    maps: list[fx.Node] = field(default_factory=list)
    bends: list[str] = field(default_factory=list)
    chosen: tuple[int, int] | None = None
    others: list[str] = field(default_factory=list)


def operation(node: fx.Node) -> str:
    """``linear`` for ``aten.linear.default``."""
    name = getattr(node.target, "__name__", str(node.target))
    overload = getattr(node.target, "overloadpacket", None)
    return str(getattr(overload, "__name__", name)).partition(".")[0]


def read(graph: fx.Graph, logits: fx.Node) -> Reading:
    """Go back from the logits to the last affine maps of something that depends on the image."""
    reading = Reading()
    _follow(logits, _depending(graph), reading, set())
    return reading


def _follow(node: fx.Node, depending: set[fx.Node], reading: Reading, seen: set[fx.Node]) -> None:
    if node in seen:
        return
    seen.add(node)
    name, arguments = operation(node), [item for item in _arguments(node) if item in depending]
    if name in _WEIGHTED and len(arguments) == 1 and _is_pointwise(node, arguments[0]):
        source = _behind(arguments[0])
        if source not in reading.inputs:
            reading.inputs.append(source)
            reading.maps.append(node)
        return
    if name in _AFFINE or name in _BENDING:
        if name in _BENDING or (name in _PRODUCTS and len(arguments) > 1) or _divides_by(node, name, arguments):
            reading.bends.append(name)
        if name == "select" and node.args[1] != 0:
            reading.chosen = cast(tuple[int, int], node.args[1:3])
        if name in _PRODUCTS:  # of several, the first that leads to an affine map; a divisor is none
            arguments = [item for item in arguments if item is node.args[0]] or arguments
        for argument in arguments:
            before = len(reading.inputs)
            _follow(argument, depending, reading, seen)
            if name in _SUMS and len(arguments) > 1 and len(reading.inputs) == before and argument not in seen:
                reading.bends.append(name)
    elif node.op == "call_function":
        reading.others.append(name)


def _behind(node: fx.Node) -> fx.Node:
    """What a node is another name of, in evaluation mode, or the other way round, with the images along its second axis."""
    while isinstance(source := node.args[0] if node.args else None, fx.Node) and (
        operation(node) in _NAMES or (operation(node) in _VIEWS and _same(node, source)) or _is_turned(node)
    ):
        node = source
    return node


def _is_turned(node: fx.Node) -> bool:
    """Whether a node is a matrix of (D, B) made of one of (B, D)."""
    shape = _shape(node)
    return operation(node) in _TURNS and len(shape) == 2 and isinstance(shape[0], int) and not isinstance(shape[1], int)


def _same(first: fx.Node, second: fx.Node) -> bool:
    """Whether two tensors have the same sizes and type."""
    one, other = first.meta.get("val"), second.meta.get("val")
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return False
    return str(one.shape) == str(other.shape) and one.dtype == other.dtype


def _is_pointwise(node: fx.Node, argument: fx.Node) -> bool:
    """Whether an affine map is one of each position: a convolution of 1 x 1, or over the whole of its input."""
    if "conv" not in operation(node):
        return True
    groups = node.args[8] if operation(node) == "convolution" else (node.args[6] if len(node.args) > 6 else 1)
    weight = node.args[1]
    kernel = tuple(_shape(weight)[2:]) if isinstance(weight, fx.Node) else ()
    return bool(groups == 1) and bool(
        set(kernel) == {1} or (set(_shape(node)[2:]) == {1} and kernel == tuple(_shape(argument)[2:]))
    )


def _divides_by(node: fx.Node, name: str, arguments: list[fx.Node]) -> bool:
    return name in ("div", "div_") and len(node.args) > 1 and node.args[1] in arguments


def _depending(graph: fx.Graph) -> set[fx.Node]:
    """The nodes that depend on the images, the last of the graph's inputs."""
    depending = {[node for node in graph.nodes if node.op == "placeholder"][-1]}
    for node in graph.nodes:
        if any(item in depending for item in _arguments(node)):
            depending.add(node)
    return depending


def _arguments(node: fx.Node) -> Iterator[fx.Node]:
    yield from _flat((*node.args, *node.kwargs.values()))


def _flat(items: Iterable[Any]) -> Iterator[fx.Node]:
    for item in items:
        if isinstance(item, fx.Node):
            yield item
        elif isinstance(item, list | tuple):
            yield from _flat(item)


def _shape(node: fx.Node) -> tuple[Any, ...]:
    value = node.meta.get("val")
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def pooled(
    graph: fx.Graph, node: fx.Node, reader: fx.Node, chosen: tuple[int, int] | None
) -> tuple[fx.Node, str | None]:
    """A node of (B, D) made of what an affine map reads, appended behind it, and a remark of how.

    Maps of each pixel read (B, D, H, W), of which the mean is the same as that of the logits; maps of each token read
    (B, T, D).
    """
    shape = _shape(node)
    with graph.inserting_after(reader):
        if len(shape) == 2:
            return node, None
        if "conv" in operation(reader):
            if set(shape[2:]) == {1} or tuple(_shape(reader)[2:]) == (1,) * (len(shape) - 2):
                return _append(graph, torch.ops.aten.flatten.using_ints, node, 1), None
            positions = list(range(2, len(shape)))
        else:
            positions = list(range(1, len(shape) - 1))
            if all(shape[axis] == 1 for axis in positions):
                return _append(graph, torch.ops.aten.flatten.using_ints, node, 1), None
            if chosen and len(shape) == 3 and chosen[0] == 1:
                return _append(graph, torch.ops.aten.select.int, node, *chosen), None
        remark = f"the penultimate activations are the mean of {' x '.join(str(shape[axis]) for axis in positions)} positions"
        return _append(graph, torch.ops.aten.mean.dim, node, positions), remark


def _append(graph: fx.Graph, target: Any, node: fx.Node, *arguments: Any) -> fx.Node:
    new = graph.call_function(target, (node, *arguments))
    value = node.meta["val"]
    with value.fake_mode if hasattr(value, "fake_mode") else torch.no_grad():
        new.meta["val"] = target(value, *arguments)
    return new


def concatenated(graph: fx.Graph, nodes: list[fx.Node], before: fx.Node) -> fx.Node:
    """One node of (B, D1 + D2 + ...)."""
    if len(nodes) == 1:
        return nodes[0]
    with graph.inserting_before(before):
        new = graph.call_function(torch.ops.aten.cat.default, (nodes, 1))
    values = [node.meta["val"] for node in nodes]
    with values[0].fake_mode:
        new.meta["val"] = torch.ops.aten.cat.default(values, 1)
    return new
