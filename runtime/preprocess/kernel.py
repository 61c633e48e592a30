"""Resampling as torch does it to uint8 tensors, in its whole numbers, so that pixels are the same without torch.

Rows, then columns, are sums of pixels with weights of 16 bits, where Pillow's have 22 (``compute_index_ranges_int16_weights``
of ATen/native/cpu/UpSampleKernel.cpp). transformers' processors resize so where torchvision is installed, and torchvision
itself whatever is a tensor.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from runtime.manifest import Interpolation

_BLOCK = 16  # rows of a product: enough of them that few pixels are read twice
_ENDS = 4096  # outputs at either end whose weights say how many bits there are: all of them, but of endless images
_HIGHEST = 1 << 15  # weights stay below
_MOST_BITS = 22

Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]


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
    across = _along(pixels.swapaxes(0, 1), size[0], left, right, filter_)
    return _along(across.swapaxes(0, 1), size[1], top, bottom, filter_)


def _nearest(size: int, to: int) -> npt.NDArray[np.int64]:
    """Which of `size` pixels each of `to` shows (``nearest-exact``), in single precision."""
    scale = np.float32(size) / np.float32(to)
    positions = np.floor((np.arange(to, dtype=np.float32) + np.float32(0.5)) * scale)
    return np.asarray(np.minimum(positions.astype(np.int64), size - 1))


def _along(pixels: Pixels, to: int, start: int, stop: int, filter_: Interpolation) -> Pixels:
    """Resize the first axis to `to` and keep [start, stop) of it."""
    first, weights, bits = _weights(pixels.shape[0], to, start, stop, filter_)
    flat = np.ascontiguousarray(pixels).reshape(pixels.shape[0], -1)
    result = np.empty((stop - start, flat.shape[1]), np.uint8)
    for row in range(0, stop - start, _BLOCK):
        block = slice(row, row + _BLOCK)
        low = first[block].min()
        columns = first[block, None] - low + np.arange(weights.shape[1])
        dense = np.zeros((len(columns), columns.max() + 1))
        dense[np.arange(len(columns))[:, None], columns] = weights[block]
        source = flat[low : low + dense.shape[1]].astype(np.float64)
        sums = dense[:, : len(source)] @ source  # whole numbers below 2 ** 53: exact in any order
        sums += 1 << (bits - 1)
        sums /= 1 << bits
        result[block] = sums.clip(0, 255, out=sums)  # the conversion to whole numbers cuts off
    return result.reshape(stop - start, *pixels.shape[1:])


def _weights(
    size: int, to: int, start: int, stop: int, filter_: Interpolation
) -> tuple[npt.NDArray[np.int64], Floats, int]:
    """The first pixel of each of [start, stop), its whole-numbered weights [stop - start, taps], and their bits."""
    first, weights = _filtered(size, to, np.arange(start, stop), filter_)
    ends = np.concatenate([np.arange(min(to, _ENDS)), np.arange(max(0, to - _ENDS), to)])
    largest = float(_filtered(size, to, ends, filter_)[1].max())
    bits = next(bits for bits in range(_MOST_BITS + 1) if bits == _MOST_BITS or _rounded(largest, bits + 1) >= _HIGHEST)
    return first, np.trunc(weights * (1 << bits) + np.copysign(0.5, weights)), bits


def _rounded(weight: float, bits: int) -> int:
    return int(0.5 + weight * (1 << bits))


def _filtered(
    size: int, to: int, which: npt.NDArray[np.int64], filter_: Interpolation
) -> tuple[npt.NDArray[np.int64], Floats]:
    """Antialiased weights of pixels, [len(which), taps], zero where there are fewer."""
    kernel, reach = _KERNELS[filter_]
    scale = size / to
    support = reach * max(scale, 1.0)
    centres = scale * (which + 0.5)
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
