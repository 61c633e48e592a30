"""``pipeline.onnx``: the bundle's graph behind its own resize, from an image of any size to the decision."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto, helper

from export.graph.arithmetic import Value, constant, joined
from export.graph.building import Graph, reads, remove_input
from export.pipeline.sampling import Axis, accumulated, axes, rounded
from export.pipeline.weights import LOW_BITS, Weights, weights
from runtime.manifest import InputSpec
from runtime.preprocess.resize import border

IMAGE = "image"
_PREFIX = "resize/"


def with_resize(sealed: bytes, spec: InputSpec) -> bytes:
    """The bytes of pipeline.onnx.

    Args:
        sealed: the bytes of model.onnx.
        spec: its input.

    Returns:
        a graph whose input is ``image`` uint8 [H, W, 3], RGB, of any size, instead of ``images``; the rest is the same,
        N being 1, the inputs of thresholds with their defaults and the manifest in the metadata among it.
    """
    model = onnx.load_from_string(sealed)
    remove_input(model, "images")
    behind = list(model.graph.node)
    del model.graph.node[:]
    g = Graph(model, _PREFIX)
    pixels = _resized(g, spec)
    if any(node.op_type != "Cast" and "images" in reads(node) for node in behind):
        pixels = pixels.cast(np.uint8)  # which TensorRT has as an input alone
    g.op("Unsqueeze", pixels.name, constant(g, np.array([0])).name, output="images")
    model.graph.node.extend(behind)
    model.graph.input.insert(0, helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, ("H", "W", 3)))
    for output in model.graph.output:
        output.type.tensor_type.shape.dim[0].dim_value = 1
    return bytes(model.SerializeToString())


def _resized(g: Graph, spec: InputSpec) -> Value:
    """The image at the model's size: whole numbers of 0 to 255, float32 [height, width, 3]."""
    image = Value(g, IMAGE, np.dtype(np.uint8))
    shape = image.op("Shape", dtype=np.int64).cast(np.float64)
    height, width = (shape.op("Gather", constant(g, np.int64(axis))) for axis in (0, 1))
    image = image.cast(np.float32)
    y, x = axes(height, width, spec)
    if spec.resize == "none" or spec.interpolation == "nearest":
        pixels = _picked(image, y, x, spec)
    else:
        pixels = _resampled(image, y, x, spec)
    if spec.resize == "center":
        return pixels
    shown = (y.shown.unsqueezed(1) & x.shown.unsqueezed(0)).unsqueezed(2)
    return pixels.where(shown, pixels.of(border(spec)))


def _picked(image: Value, y: Axis, x: Axis, spec: InputSpec) -> Value:
    for axis, number in ((y, 0), (x, 1)):
        image = image.op("Gather", _places(axis, spec), axis=number)
    return image


def _places(axis: Axis, spec: InputSpec) -> Value:
    """Which pixel each of the model's is, int64 [wanted]."""
    if spec.resampler == "pillow" or axis.endless is None:
        return accumulated(axis)
    return accumulated(axis).where(axis.endless, rounded(axis))


def _resampled(image: Value, y: Axis, x: Axis, spec: InputSpec) -> Value:
    """Products with the weights of one axis, then of the other; what is between the two is rounded to grey levels."""
    down, across = weights(y, spec), weights(x, spec)
    pixels = _cut(image, down, across)
    rows_first, columns_first = (
        _branch(pixels, [down, across] if vertical else [across, down], spec, vertical=vertical)
        for vertical in (False, True)
    )
    g = image.graph
    chosen = g.op("If", _columns_first(y, x, spec).name, then_branch=columns_first, else_branch=rows_first)
    return Value(g, chosen, image.dtype)


def _columns_first(y: Axis, x: Axis, spec: InputSpec) -> Value:
    """Whether the vertical pass is the first: Pillow's choice where height shrinks by more than twice what width does."""
    lost = y.size - y.count
    found = (lost > 0) & (lost > (x.size - x.count) * 2)
    if spec.resampler == "pillow" or y.endless is None:
        return found
    return found & y.endless


def _branch(pixels: Value, passes: list[Weights], spec: InputSpec, *, vertical: bool) -> onnx.GraphProto:
    """Both passes in one order, as the branch of an ``If``: it reads what is outside of it, and has no input."""
    name = "columns_first" if vertical else "rows_first"
    body = onnx.ModelProto()
    g = Graph(body, f"{_PREFIX}{name}/")
    inside = replace(pixels, graph=g)
    # [H, W, 3] as [W or H, 3, H or W]: the product is over the last axis, and what follows it is then over the first
    wanted = (spec.height, spec.width) if vertical else (spec.width, spec.height)
    first = inside.op("Transpose", perm=[1, 2, 0] if vertical else [0, 2, 1])
    weights_of_first = replace(passes[0].parts, graph=g).op("Transpose", perm=[1, 0])
    first = first.op("Flatten", axis=2)  # one matrix: ONNX Runtime is slow at many of three rows
    first = _levels(first.op("MatMul", weights_of_first), passes[0], wanted[0], axis=1)
    first = first.op("Reshape", constant(g, np.array([-1, 3 * wanted[0]])))
    second = _levels(replace(passes[1].parts, graph=g).op("MatMul", first), passes[1], wanted[1], axis=0)
    second = second.op("Reshape", constant(g, np.array([wanted[1], 3, wanted[0]])))
    g.op("Transpose", second.name, output=name, perm=[2, 0, 1] if vertical else [0, 2, 1])
    g.declare_output(name, TensorProto.FLOAT, (spec.height, spec.width, 3))
    body.graph.name = name
    return body.graph


def _cut(image: Value, down: Weights, across: Weights) -> Value:
    """The box of pixels that is taken."""
    first, stop = (
        joined(y.unsqueezed(0), x.unsqueezed(0), axis=0) for y, x in zip(down.range, across.range, strict=True)
    )
    return image.op("Slice", first, stop, constant(image.graph, np.array([0, 1])))


def _levels(sums: Value, taken: Weights, wanted: int, *, axis: int) -> Value:
    """Grey levels, float32, of sums with both parts of weights: they are put together in whole numbers, and rounded."""
    high, low = (
        sums.op(
            "Slice", *(constant(sums.graph, np.array([edge])) for edge in edges), constant(sums.graph, np.array([axis]))
        ).cast(np.int32)
        for edges in ((0, wanted), (wanted, 2 * wanted))
    )
    unit = replace(taken.unit, graph=sums.graph)
    total = high * (1 << LOW_BITS) + low + unit / 2
    return (total.at_least(0) / unit).at_most(255).cast(np.float32)
