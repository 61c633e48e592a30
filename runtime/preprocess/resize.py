"""The manifest's rule for bringing an image of any size to the model's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from runtime.manifest import Corner, InputSpec
from runtime.preprocess import kernel

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)

# Of an image that is this many times as long as wide the input's box alone is resampled, and by Pillow, so that none makes a
# huge one: Pillow takes the box's corners in single precision, which moves a few pixels by a few grey levels.
ENDLESS = 64


@dataclass(frozen=True)
class Grid:
    """Where the input lies on the grid of the resized image.

    Attributes:
        width, height: of the whole image, resized.
        left, top: the input's corner in it; negative where the input is larger.
    """

    width: int
    height: int
    left: int
    top: int


def grid(width: int, height: int, spec: InputSpec) -> Grid:
    """The grid of an image of `width` x `height` pixels, by any rule but ``center``."""
    whole = _whole(width, height, spec)
    return Grid(*whole, _start(whole[0], spec.width, spec.corner), _start(whole[1], spec.height, spec.corner))


def _whole(width: int, height: int, spec: InputSpec) -> tuple[int, int]:
    """Width and height of the image once it is resized."""
    if spec.resize == "none":
        return width, height
    if isinstance(spec.resize_to, int):
        long = int(spec.resize_to * max(width, height) / min(width, height))
        return (spec.resize_to, long) if width <= height else (long, spec.resize_to)
    to_height, to_width = spec.resize_to or (spec.height, spec.width)
    if spec.resize == "squash":
        return to_width, to_height
    ratios = width / to_width, height / to_height
    ratio = max(ratios) if spec.resize == "border" else min(ratios)
    return max(1, round(width / ratio)), max(1, round(height / ratio))


def _start(whole: int, wanted: int, corner: Corner) -> int:
    """The first of the `wanted` pixels in the middle of `whole`."""
    if corner == "floor":
        return (whole - wanted) // 2
    return round((whole - wanted) / 2) if whole >= wanted else -((wanted - whole) // 2)


def fit(image: Image.Image, spec: InputSpec) -> npt.NDArray[np.uint8]:
    """Resize an RGB image of any size by the manifest's rule (:class:`runtime.manifest.InputSpec`).

    Returns:
        uint8 array ``[height, width, 3]``.
    """
    return padded(resized(image, spec), spec)


def resized(image: Image.Image, spec: InputSpec) -> Image.Image:
    """An image of mode L, RGB or CMYK at the model's scale, what lies outside the input cut off."""
    if spec.resize == "center":
        return _center(image, spec)
    at = grid(*image.size, spec)
    left, top = max(0, at.left), max(0, at.top)
    part = (left, top, min(left + spec.width, at.width), min(top + spec.height, at.height))
    size = (at.width, at.height)
    if size == image.size:
        return image.crop(part)
    endless = max(image.size) > ENDLESS * min(image.size)
    if spec.resampler == "torch" and not endless:
        pixels = kernel.resample(np.asarray(image), size, part, spec.interpolation)
        return Image.frombytes(image.mode, (part[2] - part[0], part[3] - part[1]), pixels.tobytes())
    filter_ = _FILTERS[spec.interpolation]
    if not endless:
        return image.resize(size, filter_).crop(part)
    x, y = image.width / at.width, image.height / at.height
    box = (part[0] * x, part[1] * y, min(part[2] * x, image.width), min(part[3] * y, image.height))
    return image.resize((part[2] - part[0], part[3] - part[1]), filter_, box)


def padded(image: Image.Image, spec: InputSpec) -> npt.NDArray[np.uint8]:
    """The pixels of a :func:`resized` RGB image, with `fill` around one that is smaller than the input."""
    if image.size == (spec.width, spec.height):
        return np.array(image)
    canvas = Image.new("RGB", (spec.width, spec.height), border(spec))
    left, top = _start(image.width, spec.width, spec.corner), _start(image.height, spec.height, spec.corner)
    canvas.paste(image, (-left, -top))
    return np.array(canvas)


def border(spec: InputSpec) -> tuple[int, int, int]:
    """The colour around an image that is smaller than the input."""
    return spec.fill or (_WHITE if spec.resize == "border" else _BLACK)


def _center(image: Image.Image, spec: InputSpec) -> Image.Image:
    """The largest centred box of the input's aspect ratio, times ``crop_fraction``, resampled in one step."""
    target = (spec.width, spec.height)
    width, height = image.size
    scale = min(width / spec.width, height / spec.height) * spec.crop_fraction
    box_width, box_height = spec.width * scale, spec.height * scale
    left, top = max(0.0, (width - box_width) / 2), max(0.0, (height - box_height) / 2)
    box = (left, top, min(left + box_width, width), min(top + box_height, height))
    if image.size == target and box == (0.0, 0.0, *map(float, target)):
        return image
    return image.resize(target, _FILTERS[spec.interpolation], box)
