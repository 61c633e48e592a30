"""Resampling as torch does it to uint8 tensors, in its whole numbers, so that pixels are the same without torch.

Rows, then columns, are sums of pixels with weights of 16 bits, where Pillow's have 22 (``compute_index_ranges_int16_weights``
of ATen/native/cpu/UpSampleKernel.cpp). torchvision's v2 transforms resize tensors so, and transformers' processors by them
where torchvision is installed. Its first transforms take single precision to tensors, which is another rounding again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from runtime.manifest import Interpolation

_BLOCK = 16  # outputs of a product: enough of them that few pixels are read twice
_HIGHEST = 1 << 15  # whole-numbered weights stay below
_MOST_BITS = 22

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class _Taps:
    """What each output of an axis takes.

    Attributes:
        first: its first pixel, [N], ascending.
        weights: whole numbers, [N, taps], zero where there are fewer.
        bits: what they are multiplied by, as a power of two.
    """

    first: Indices
    weights: Floats
    bits: int


def resample(pixels: Pixels, size: tuple[int, int], part: tuple[int, int, int, int], filter_: Interpolation) -> Pixels:
    """The `part` of an image that is resized to `size`.

    Args:
        pixels: uint8 [H, W] or [H, W, C].
        size: width and height of the whole image, resized.
        part: left, top, right and bottom of what is wanted of it.

    Returns:
        uint8 [bottom - top, right - left] or with C behind.
    """
    left, top, right, bottom = part
    if filter_ == "nearest":
        rows = _nearest(pixels.shape[0], size[1])[top:bottom]
        return pixels[rows][:, _nearest(pixels.shape[1], size[0])[left:right]]
    across = _taps(pixels.shape[1], size[0], left, right, filter_)
    down = _taps(pixels.shape[0], size[1], top, bottom, filter_)
    low, high = down.first[0], down.first[-1] + down.weights.shape[1]
    columns = _sums(pixels[low:high].swapaxes(0, 1), across)
    return _sums(columns.swapaxes(0, 1), replace(down, first=down.first - low))


def _nearest(size: int, to: int) -> Indices:
    """Which of `size` pixels each of `to` shows (``nearest-exact``), in single precision."""
    scale = np.float32(size) / np.float32(to)
    positions = np.floor((np.arange(to, dtype=np.float32) + np.float32(0.5)) * scale)
    return np.asarray(np.minimum(positions.astype(np.int64), size - 1))


def _sums(pixels: Pixels, taps: _Taps) -> Pixels:
    """The outputs along the first axis, uint8 [N, ...]."""
    result = np.empty((len(taps.first), math.prod(pixels.shape[1:])), np.uint8)
    for row in range(0, len(result), _BLOCK):
        block = slice(row, row + _BLOCK)
        low = taps.first[row]
        columns = taps.first[block, None] - low + np.arange(taps.weights.shape[1])
        dense = np.zeros((len(columns), columns.max() + 1))
        dense[np.arange(len(columns))[:, None], columns] = taps.weights[block]
        source = pixels[low : low + dense.shape[1]].astype(np.float64, order="C")
        source = source.reshape(len(source), -1)
        sums = dense[:, : len(source)] @ source  # whole numbers below 2 ** 53: exact in any order
        sums += 1 << (taps.bits - 1)
        sums /= 1 << taps.bits
        result[block] = sums.clip(0, 255, out=sums)  # the conversion to whole numbers cuts off
    return result.reshape(-1, *pixels.shape[1:])


def _taps(size: int, to: int, start: int, stop: int, filter_: Interpolation) -> _Taps:
    """Those of [start, stop) of `to` outputs; all of them say how many bits there are."""
    first, weights = _filtered(size, to, filter_)
    largest = float(weights.max())
    fitting = (bits for bits in range(_MOST_BITS) if int(0.5 + largest * (1 << (bits + 1))) >= _HIGHEST)
    bits = next(fitting, _MOST_BITS)
    weights = weights[start:stop]
    return _Taps(first[start:stop], np.trunc(weights * (1 << bits) + np.copysign(0.5, weights)), bits)


def _filtered(size: int, to: int, filter_: Interpolation) -> tuple[Indices, Floats]:
    """The first pixel of each of `to` outputs, and antialiased weights [to, taps]."""
    kernel, reach = _KERNELS[filter_]
    scale = size / to
    support = reach * max(scale, 1.0)
    centres = scale * (np.arange(to) + 0.5)
    first = np.maximum((centres - support + 0.5).astype(np.int64), 0)
    count = np.minimum((centres + support + 0.5).astype(np.int64), size) - first
    taps = np.arange(int(count.max()))
    weights = kernel((taps + first[:, None] - centres[:, None] + 0.5) / max(scale, 1.0))
    weights[taps >= count[:, None]] = 0
    return first, weights / weights.sum(axis=1, keepdims=True)


def _triangle(x: Floats) -> Floats:
    return np.asarray(np.maximum(1 - np.abs(x), 0))


def _cubic(x: Floats) -> Floats:
    """Keys' cubic convolution with a = -0.5."""
    x = np.abs(x)
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _lanczos(x: Floats) -> Floats:
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)


_KERNELS: dict[str, tuple[Callable[[Floats], Floats], float]] = {
    "bilinear": (_triangle, 1.0),
    "bicubic": (_cubic, 2.0),
    "lanczos": (_lanczos, 3.0),
}
