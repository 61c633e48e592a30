"""Antialiased weights of one axis as whole numbers, as Pillow and torch have them, computed in the graph."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from export.graph.arithmetic import Value, arange, joined
from export.pipeline.sampling import Axis
from runtime.manifest import InputSpec

PILLOW_BITS = 22  # PRECISION_BITS of Pillow's Resample.c
_TORCH_HIGHEST = 1 << 15  # weights stay below
LOW_BITS = 8
"""A weight is split there: both parts' products with pixels, summed up over 500 taps, are exact in single precision."""


@dataclass(frozen=True)
class Weights:
    """What each of the model's pixels takes of the image's.

    Attributes:
        range: of pixels that any takes: the first, and the one behind the last; int64 scalars.
        parts: float32 [2 * wanted, pixels of `range`]: high parts of weights, in units of ``2 ** LOW_BITS``, then low ones.
        unit: what they are multiplied by, a power of two: int32 scalar.
    """

    range: tuple[Value, Value]
    parts: Value
    unit: Value


@dataclass(frozen=True)
class _Taps:
    """Of some outputs: their centres, and the range of pixels that each takes; float64 [N, 1]."""

    centre: Value
    first: Value
    stop: Value
    spread: Value

    def weights(self, positions: Value, filter_: Callable[[Value], Value]) -> Value:
        """Of the pixels at `positions`, which broadcast to [N, T]; each output's are of sum 1."""
        values = filter_((positions - self.centre + 0.5) / self.spread)
        values = values.where((positions >= self.first) & (positions < self.stop), 0)
        return values / values.reduced("ReduceSum", axis=1)


def weights(axis: Axis, spec: InputSpec) -> Weights:
    """The weights of a filter that is not ``nearest``."""
    filter_, reach = _FILTERS[spec.interpolation]
    taps = _taps(axis, axis.nearest_outputs, reach)
    first, stop = taps.first.reduced("ReduceMin"), taps.stop.reduced("ReduceMax")
    positions = arange(first, stop).unsqueezed(0)
    bits = axis.size.of(PILLOW_BITS)
    if spec.resampler == "torch":
        bits = _torch_bits(axis, filter_, reach)
    values = taps.weights(positions, filter_)
    unit = bits.of(2).op("Pow", bits)
    whole = values.op("Sign") * (abs(values) * unit + 0.5).floor()
    high = ((whole + (1 << (LOW_BITS - 1))) / (1 << LOW_BITS)).floor()
    parts = joined(high, whole - high * (1 << LOW_BITS), axis=0).cast(np.float32)
    return Weights((first.cast(np.int64), stop.cast(np.int64)), parts, unit.cast(np.int32))


def _taps(axis: Axis, outputs: Value, reach: float) -> _Taps:
    spread = axis.scale.at_least(1)
    support = spread * reach
    centre = (axis.origin + (outputs + 0.5) * axis.scale).unsqueezed(1)
    first = (centre - support + 0.5).floor().at_least(0)
    stop = (centre + support + 0.5).floor().at_most(axis.size)
    return _Taps(centre, first, stop, spread)


def _torch_bits(axis: Axis, filter_: Callable[[Value], Value], reach: float) -> Value:
    """So many that the largest weight of any output, those cut off included, has 15 bits; Pillow's for an endless image."""
    if axis.endless is None:
        raise ValueError("center is resampled by Pillow alone")
    count = axis.size.of(1).where(axis.endless, axis.count)
    taps = _taps(axis, arange(axis.size.of(0), count), reach)
    most = (taps.stop - taps.first).reduced("ReduceMax")
    positions = taps.first + arange(axis.size.of(0), most).unsqueezed(0)
    largest = taps.weights(positions, filter_).reduced("ReduceMax")
    fitting = (largest * axis.size.of(2.0 ** np.arange(1, PILLOW_BITS + 1)) + 0.5).floor() < _TORCH_HIGHEST
    bits = fitting.cast(np.float64).reduced("ReduceSum")
    return axis.size.of(PILLOW_BITS).where(axis.endless, bits)


def _triangle(x: Value) -> Value:
    return (1 - abs(x)).at_least(0)


def _cubic(x: Value) -> Value:
    """Keys' cubic convolution with a = -0.5."""
    x = abs(x)
    near = (x * 1.5 - 2.5) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * -0.5
    return near.where(x < 1, far.where(x < 2, 0))


def _lanczos(x: Value) -> Value:
    return (_sinc(x) * _sinc(x / 3)).where(abs(x) < 3, 0)


def _sinc(x: Value) -> Value:
    angle = x * math.pi
    zero = abs(x) <= 0
    return x.of(1).where(zero, angle.op("Sin") / x.of(1).where(zero, angle))


_FILTERS: dict[str, tuple[Callable[[Value], Value], float]] = {
    "bilinear": (_triangle, 1.0),
    "bicubic": (_cubic, 2.0),
    "lanczos": (_lanczos, 3.0),
}
