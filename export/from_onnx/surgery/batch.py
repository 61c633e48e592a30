"""Batches of any size through a graph that was written down for one: the constants that hold its size are found."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

from export.exceptions import ExportError
from export.from_onnx.surgery.network import Network, attributes, computed, fold, replace_nodes, unused

Shapes = dict[str, tuple[int, ...]]

_SMALL = 4096  # bytes: constants that shapes may follow from


def generalise(model: onnx.ModelProto, batch: int) -> None:
    """Let the first dimension of the only input be dynamic, in place.

    Where a Reshape asks for a size that holds the batch, it infers that size instead; where a constant is concatenated
    to what has a row an image, it is repeated. Whether that is all there is shows when batches are run.

    Args:
        model: plain, of opset 18 or later.
        batch: the number of images that it was written down for.

    Raises:
        ExportError: a Reshape that mixes the images of a batch.
    """
    del model.graph.value_info[:]
    (image,) = model.graph.input
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    while True:
        once, twice, view = _shapes(model, batch), _shapes(model, 2 * batch), Network(model)
        if not _settle(view, once, twice) and not any(_change(view, node, once, twice) for node in model.graph.node):
            break
    image.type.tensor_type.shape.dim[0].dim_param = "N"


def _settle(view: Network, once: Shapes, twice: Shapes) -> bool:
    """Compute sizes that a graph asks its own tensors for and that no batch changes; whether there were any."""
    model = view.model
    shapes = {node.output[0]: node for node in model.graph.node if node.op_type == "Shape"}
    settled = list[str]()
    for node in model.graph.node:
        if node.op_type not in ("Gather", "Slice") or node.input[0] not in shapes:
            continue
        values = [_asked(view, node, shapes[node.input[0]], known) for known in (once, twice)]
        if values[0] is not None and values[1] is not None and np.array_equal(values[0], values[1]):
            model.graph.initializer.append(numpy_helper.from_array(values[0], node.output[0]))
            settled.append(node.output[0])
    if settled:
        replace_nodes(model.graph, [node for node in model.graph.node if node.output[0] not in settled])
        fold(model)
    return bool(settled)


def _asked(view: Network, node: onnx.NodeProto, shape: onnx.NodeProto, known: Shapes) -> Any:
    """Which sizes of a tensor a node picks; None where they are not known."""
    found_constants = [view.constant(name) for name in node.input[1:]]
    constants = [value for value in found_constants if value is not None]
    if shape.input[0] not in known or len(constants) < len(found_constants):
        return None
    found = attributes(shape)
    sizes = np.array(known[shape.input[0]][found.get("start", 0) : found.get("end")], np.int64)
    return computed(node, dict(zip(node.input, (sizes, *constants), strict=True)), view.model)


def _change(view: Network, node: onnx.NodeProto, once: Shapes, twice: Shapes) -> bool:
    """Let a node take any batch; whether that was needed."""
    if node.op_type == "Reshape":
        return _reshape(view, node, once, twice)
    return node.op_type == "Concat" and _concat(view.model, node, once, twice)


def _reshape(view: Network, node: onnx.NodeProto, once: Shapes, twice: Shapes) -> bool:
    """Let a Reshape to a constant shape infer the size that holds the batch; whether that was needed."""
    shape = view.constant(node.input[1])
    before, after = once.get(node.input[0]), once.get(node.output[0])
    axis = _batch_axis(before, twice.get(node.input[0]))
    if shape is None or before is None or after is None or axis is None:
        return False
    rows = math.prod(before[:axis])
    target = next((i for i in range(len(after)) if math.prod(after[:i]) == rows), None)
    if target is None:
        raise ExportError(
            f"{node.name or node.output[0]} (Reshape of {list(before)} to {list(after)}) mixes the images of a batch"
        )
    wanted = [int(size) for size in shape]
    if wanted[target] == -1 or (wanted[target] == 0 and target == axis):
        return False
    sizes = np.array([-1 if i == target else size for i, size in enumerate(after)], np.int64)
    name = unused(f"{node.output[0]}/shape", view.constants)
    view.model.graph.initializer.append(numpy_helper.from_array(sizes, name))
    node.input[1] = name
    return True


def _concat(model: onnx.ModelProto, node: onnx.NodeProto, once: Shapes, twice: Shapes) -> bool:
    """Repeat what has one row, and should have one an image; whether that was needed."""
    axes = [_batch_axis(once.get(name), twice.get(name)) for name in node.input]
    batched = next((i for i, axis in enumerate(axes) if axis is not None), None)
    if batched is None or (axis := axes[batched]) is None:
        return False
    rank = len(once[node.input[batched]])
    if attributes(node)["axis"] % rank == axis:
        return False
    changed = False
    for i, name in enumerate(node.input):
        if axes[i] is None and once.get(name, ())[axis : axis + 1] == (1,):
            node.input[i] = _repeated(model, node, name, once[name], node.input[batched], axis)
            changed = True
    return changed


def _repeated(
    model: onnx.ModelProto, node: onnx.NodeProto, name: str, shape: tuple[int, ...], like: str, axis: int
) -> str:
    """Expand a tensor to as many rows as another has; the name of the result."""
    graph, prefix = model.graph, f"{node.output[0]}/{name}"
    parts = []
    for which, sizes in (("before", shape[:axis]), ("after", shape[axis + 1 :])):
        if sizes:
            parts.append(f"{prefix}/{which}")
            graph.initializer.append(numpy_helper.from_array(np.array(sizes, np.int64), parts[-1]))
        if which == "before":
            parts.append(f"{prefix}/rows")
    new = [
        helper.make_node("Shape", [like], [f"{prefix}/rows"], f"{prefix}/rows", start=axis, end=axis + 1),
        helper.make_node("Concat", parts, [f"{prefix}/shape"], f"{prefix}/shape", axis=0),
        helper.make_node("Expand", [name, f"{prefix}/shape"], [f"{prefix}/repeated"], f"{prefix}/repeated"),
    ]
    index = next(i for i, other in enumerate(graph.node) if other.output[0] == node.output[0])
    for added in reversed(new):
        graph.node.insert(index, added)
    return f"{prefix}/repeated"


def _batch_axis(once: tuple[int, ...] | None, twice: tuple[int, ...] | None) -> int | None:
    """The axis that grows with the batch; None where none does, or it is not known."""
    if once is None or twice is None or len(once) != len(twice):
        return None
    grown = [i for i, (a, b) in enumerate(zip(once, twice, strict=True)) if a != b]
    return grown[0] if len(grown) == 1 else None


def _shapes(model: onnx.ModelProto, batch: int) -> Shapes:
    """The shapes of tensors for a batch, as far as they can be inferred; large weights are not looked at."""
    light = onnx.ModelProto()
    light.ir_version = model.ir_version
    light.opset_import.extend(model.opset_import)
    light.graph.name = "shapes"
    light.graph.node.extend(model.graph.node)
    light.graph.output.extend(model.graph.output)
    image = light.graph.input.add()
    image.CopyFrom(model.graph.input[0])
    image.type.tensor_type.shape.dim[0].dim_value = batch
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) <= _SMALL:
            light.graph.initializer.append(tensor)
        else:
            light.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    inferred = shape_inference.infer_shapes(light, data_prop=True).graph
    found: Shapes = {}
    for item in (*inferred.input, *inferred.value_info, *inferred.output):
        dims = item.type.tensor_type.shape.dim
        if item.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            found[item.name] = tuple(dim.dim_value for dim in dims)
    found |= {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    return found
