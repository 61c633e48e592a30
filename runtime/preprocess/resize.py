"""The manifest's rule for bringing an image of any size to the model's."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from runtime.manifest import InputSpec

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

_WHITE: dict[str, tuple[int, ...] | int] = {"L": 255, "RGB": (255, 255, 255), "CMYK": (0, 0, 0, 0)}


def fit(image: Image.Image, spec: InputSpec) -> npt.NDArray[np.uint8]:
    """Resize an RGB image of any size by the manifest's rule.

    ``center`` cuts the largest centred box of the model's aspect ratio (times ``crop_fraction``), ``squash``
    stretches the whole image, ``border`` fits the whole image and pads with white. The box is resampled in one
    step, so an extreme aspect ratio never makes a large intermediate image.

    Returns:
        uint8 array ``[height, width, 3]``.
    """
    return np.array(resized(image, spec))


def resized(image: Image.Image, spec: InputSpec) -> Image.Image:
    """:func:`fit`, of an image of mode L, RGB or CMYK, which stays an image of that mode."""
    target = (spec.width, spec.height)
    width, height = image.size
    box = (0.0, 0.0, float(width), float(height))
    if spec.resize == "center":
        scale = min(width / spec.width, height / spec.height) * spec.crop_fraction
        box_width, box_height = spec.width * scale, spec.height * scale
        left, top = max(0.0, (width - box_width) / 2), max(0.0, (height - box_height) / 2)
        box = (left, top, min(left + box_width, width), min(top + box_height, height))
    filter_ = _FILTERS[spec.interpolation]
    if spec.resize == "border":
        scale = min(spec.width / width, spec.height / height)
        inner = (max(1, round(width * scale)), max(1, round(height * scale)))
        canvas = Image.new(image.mode, target, _WHITE[image.mode])
        corner = ((spec.width - inner[0]) // 2, (spec.height - inner[1]) // 2)
        canvas.paste(image.resize(inner, filter_), corner)
        return canvas
    if image.size == target and box == (0.0, 0.0, *map(float, target)):
        return image
    return image.resize(target, filter_, box)
