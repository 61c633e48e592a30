"""Where on one axis of an image each of the model's pixels is, computed in the graph from the image's size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from export.graph.arithmetic import Value, arange, constant
from runtime.manifest import InputSpec
from runtime.preprocess.resize import ENDLESS


@dataclass(frozen=True)
class Axis:
    """One axis of the image, and what the model takes of it.

    Attributes:
        size: pixels of the image, float64 scalar.
        wanted: pixels of the model.
        origin, scale: output `j` of the resampling is centred on ``origin + (j + 0.5) * scale``; float64 scalars.
        count: how many outputs there are, float64 scalar.
        start: which of them is the model's first pixel; one that is outside of [0, count) is `fill`. A float64 scalar.
        endless: whether the image is so long that Pillow resamples the box alone, bool scalar; None for ``center``, by
            which it always does.
    """

    size: Value
    wanted: int
    origin: Value
    scale: Value
    count: Value
    start: Value
    endless: Value | None

    @property
    def outputs(self) -> Value:
        """Which output each of the model's pixels is, float64 [wanted]."""
        return self.start + constant(self.size.graph, np.arange(self.wanted, dtype=np.float64))

    @property
    def shown(self) -> Value:
        """Whether there is such an output, bool [wanted]."""
        return (self.outputs >= 0) & (self.outputs < self.count)

    @property
    def nearest_outputs(self) -> Value:
        """:attr:`outputs`, of those that there are the nearest."""
        return self.outputs.at_most(self.count - 1).at_least(0)


def axes(height: Value, width: Value, spec: InputSpec) -> tuple[Axis, Axis]:
    """Both axes, vertical first, by the manifest's rule (:mod:`runtime.preprocess.resize`).

    Args:
        height, width: of the image, float64 scalars.
        spec: the rule.
    """
    sizes, wanted = (height, width), (spec.height, spec.width)
    if spec.resize == "center":
        scale = (height / spec.height).at_most(width / spec.width) * spec.crop_fraction
        y, x = (_centred(size, count, scale) for size, count in zip(sizes, wanted, strict=True))
        return y, x
    endless = height.at_least(width) > height.at_most(width) * ENDLESS
    y, x = (
        _on_grid(size, whole, count, endless, spec)
        for size, whole, count in zip(sizes, _whole(height, width, spec), wanted, strict=True)
    )
    return y, x


def _centred(size: Value, wanted: int, scale: Value) -> Axis:
    box = wanted * scale
    left = ((size - box) / 2).at_least(0)
    first, last = _single(left), _single((left + box).at_most(size))
    zero = size.of(0)
    return Axis(size, wanted, first, _single(last - first) / wanted, size.of(wanted), zero, None)


def _on_grid(size: Value, whole: Value, wanted: int, endless: Value, spec: InputSpec) -> Axis:
    start = _start(whole, wanted, spec)
    pixel = size / whole
    low, high = start.at_least(0), (start + wanted).at_most(whole)
    first, last = _single(low * pixel), _single((high * pixel).at_most(size))
    return Axis(
        size=size,
        wanted=wanted,
        origin=first.where(endless, 0),
        scale=(_single(last - first) / (high - low)).where(endless, pixel),
        count=(high - low).where(endless, whole),
        start=(start - low).where(endless, start),
        endless=endless,
    )


def _whole(height: Value, width: Value, spec: InputSpec) -> tuple[Value, Value]:
    """Height and width of the image once it is resized."""
    if spec.resize == "none":
        return height, width
    if isinstance(spec.resize_to, int):
        long = (height.at_least(width) * spec.resize_to / height.at_most(width)).floor()
        upright, short = width <= height, height.of(spec.resize_to)
        return long.where(upright, short), short.where(upright, long)
    to_height, to_width = spec.resize_to or (spec.height, spec.width)
    if spec.resize == "squash":
        return height.of(to_height), height.of(to_width)
    across, down = width / to_width, height / to_height
    ratio = across.at_least(down) if spec.resize == "border" else across.at_most(down)
    return (height / ratio).op("Round").at_least(1), (width / ratio).op("Round").at_least(1)


def _start(whole: Value, wanted: int, spec: InputSpec) -> Value:
    """The first of the `wanted` pixels in the middle of `whole`; the arithmetic is exact."""
    spare = whole - wanted
    down = (spare / 2).floor()
    if spec.corner == "floor":
        return down
    return (spare / 2).op("Round").where(spare >= 0, 0 - ((0 - spare) / 2).floor())


def _single(value: Value) -> Value:
    """Rounded to single precision, in which Pillow takes a box."""
    return value.cast(np.float32).cast(np.float64)


def accumulated(axis: Axis) -> Value:
    """Which pixel each of the model's shows by Pillow's ``nearest``, int64 [wanted]: a sum of steps, rounding included."""
    steps = arange(axis.size.of(0), axis.count)
    positions = (axis.origin + axis.scale * 0.5).where(steps < 1, axis.scale)
    positions = positions.op("CumSum", constant(axis.size.graph, np.int64(0)))
    return _pixels(axis, positions.op("Gather", axis.nearest_outputs.cast(np.int64)))


def rounded(axis: Axis) -> Value:
    """The same by torch's ``nearest-exact``, in single precision."""
    scale = axis.size.cast(np.float32) / axis.count.cast(np.float32)
    return _pixels(axis, (axis.nearest_outputs.cast(np.float32) + 0.5) * scale)


def _pixels(axis: Axis, positions: Value) -> Value:
    return positions.floor().cast(np.float64).at_most(axis.size - 1).at_least(0).cast(np.int64)
