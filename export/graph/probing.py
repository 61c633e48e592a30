"""Does what a graph shows on some images hold on all? Its last nodes run on values that none of these images gave.

A clamp, a gate or a guard behind the last layer may do nothing on every image at hand and much on the one that comes: logits
that are one linear layer there are it always only if they are so of other values too.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, shape_inference

from export.exceptions import ExportError
from export.graph.building import LOGITS, prune, reads, remove_input
from export.graph.session import run, session

Array = npt.NDArray[np.float64]

FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE}

_ROWS = 16
_FACTORS = (0.0, 0.1, 0.5, 3.0, 30.0, 1000.0)
_BELOW = (-1.0, -30.0)  # where some values are negative anyway
_COUNTS = {"Shape", "Size"}  # what these read matters to them by its shape alone


def probes(model: onnx.ModelProto, name: str, images: npt.NDArray[np.uint8]) -> Iterator[tuple[Array, Array]]:
    """Rows of a tensor and of the logits beside it, some at a time: of drawn images, and of other values between.

    Other values have the tensors that both follow from, the last ones before they part, or `name` itself where the logits
    follow from it alone: those of the images times a factor, and noise.

    Args:
        model: with the output ``logits``.
        name: a floating-point tensor, the first axis of which is that of the images.
        images: uint8 [N, H, W, 3].

    Yields:
        Values [n, ...] of `name` and ``logits``, float64; all are finite. Those that a node refuses are left out.
    """
    source, types = str(model.graph.input[0].name), tensor_types(model)
    given, drawn = _given(model, name, types), _drawn(images)
    whole = computing(model, [name, LOGITS, *given], types)
    yield from _finite(name, whole, {source: drawn})
    if not given:
        return
    found = values_of(whole, {source: images[:_ROWS]})
    part = computing(_with_inputs(model, given, types), {name, LOGITS} - {*given}, types)
    others = np.resize(drawn, (len(found[LOGITS]), *drawn.shape[1:]))
    for values in _other({one: found[one] for one in given}):
        with np.errstate(over="ignore"):  # of half precision; such rows are left out
            feeds = {one: value.astype(helper.tensor_dtype_to_np_dtype(types[one])) for one, value in values.items()}
        yield from _finite(name, part, {source: others, **feeds})


def tensor_types(model: onnx.ModelProto) -> dict[str, int]:
    """The element types of a graph's tensors, as far as they can be told."""
    inferred = shape_inference.infer_shapes(model)
    known = (*inferred.graph.value_info, *inferred.graph.output)
    return {item.name: item.type.tensor_type.elem_type for item in known}


def _given(model: onnx.ModelProto, name: str, types: Mapping[str, int]) -> list[str]:
    """The tensors that get other values: the last that `name` and the logits have in common, and none behind another."""
    producers = {output: node for node in model.graph.node for output in node.output}

    def behind(start: str, stop: Container[str] = ()) -> set[str]:
        """The tensors that one follows from, itself included, and those of `stop` but nothing behind them."""
        seen, queue = set[str](), [start]
        while queue:
            if (one := queue.pop()) not in seen:
                seen.add(one)
                node = producers.get(one)
                queue += reads(node) if node is not None and node.op_type not in _COUNTS and one not in stop else ()
        return seen

    common = behind(name)
    source = model.graph.input[0].name
    met = {one for one in behind(LOGITS, common) & common if types.get(one) in FLOATS and source in behind(one) - {one}}
    others = met - {name}
    return sorted(one for one in others if behind(one) & others == {one}) or sorted(met)


def _with_inputs(model: onnx.ModelProto, tensors: Sequence[str], types: Mapping[str, int]) -> onnx.ModelProto:
    """A copy to which some tensors are given."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        node.output[:] = [f"{output}/computed" if output in tensors else output for output in node.output]
    copy.graph.input.extend(helper.make_tensor_value_info(one, types[one], None) for one in tensors)
    return copy


def computing(model: onnx.ModelProto, names: Iterable[str], types: Mapping[str, int]) -> ort.InferenceSession:
    """A copy with these outputs, of the types of :func:`tensor_types`, and no input that they don't need."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(helper.make_tensor_value_info(name, types[name], None) for name in dict.fromkeys(names))
    prune(copy)
    needed = {name for node in copy.graph.node for name in reads(node)}
    for name in {item.name for item in copy.graph.input} - needed:
        remove_input(copy, name)
    return session(copy)


def values_of(loaded: ort.InferenceSession, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, Array]:
    """The outputs of a graph by name, in float64; of `feeds` it takes what it has inputs for.

    Raises:
        ExportError: a node fails.
    """
    names = [item.name for item in loaded.get_outputs()]
    found = run(loaded, names, {item.name: feeds[item.name] for item in loaded.get_inputs()})
    return {name: np.asarray(value, dtype=np.float64) for name, value in zip(names, found, strict=True)}


def _other(base: dict[str, Array]) -> Iterator[dict[str, Array]]:
    """Other values of tensors, all times one factor, and noise of their size."""
    below = _BELOW if any((value < 0).any() for value in base.values()) else ()
    for factor in (*_FACTORS, *below):
        yield {name: factor * value for name, value in base.items()}
    rng = np.random.default_rng(0)
    for factor in (1.0, 10.0):
        noise = {name: factor * value.std() * rng.normal(size=value.shape) for name, value in base.items()}
        yield {name: value if (base[name] < 0).any() else np.abs(value) for name, value in noise.items()}


def _finite(
    name: str, loaded: ort.InferenceSession, feeds: Mapping[str, npt.NDArray[Any]]
) -> Iterator[tuple[Array, Array]]:
    """A tensor, given or computed, and the logits, without the rows where one is not finite; nothing where none is left."""
    try:
        found = values_of(loaded, feeds)
    except ExportError:  # an index, say, beyond its table
        return
    values, logits = found[name] if name in found else feeds[name].astype(np.float64), found[LOGITS]
    rows = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    rows &= np.isfinite(logits.reshape(len(logits), -1)).all(axis=1)
    if rows.any():
        yield values[rows], logits[rows]


def _drawn(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Images of one colour, of noise, and some of `images` inverted, with little contrast and with much."""
    size, some = images.shape[1:], images[:4].astype(np.float64)
    rng = np.random.default_rng(0)
    levels = np.array([[0, 0, 0], [255, 255, 255], [128, 128, 128], [255, 0, 0], [0, 255, 0], [0, 0, 255]])
    flat = np.broadcast_to(levels[:, None, None, : size[-1]], (len(levels), *size))
    noise = rng.integers(0, 256, (2, *size))
    extreme = 255 * rng.integers(0, 2, (2, *size))
    changed = [255 - some, 128 + 0.1 * (some - 128), 128 + 8 * (some - 128)]
    return np.concatenate([flat, noise, extreme, *changed]).clip(0, 255).astype(np.uint8)
