"""Resampling filters by the names and numbers that Pillow, torchvision and timm give them."""

from __future__ import annotations

from runtime.manifest import Interpolation
from train.exceptions import ModelError

_NAMES: dict[str, Interpolation] = {
    "nearest": "nearest",
    "nearest-exact": "nearest",
    "bilinear": "bilinear",
    "random": "bilinear",  # timm's, in training; it evaluates by what is its default then
    "bicubic": "bicubic",
    "lanczos": "lanczos",
    "0": "nearest",
    "1": "lanczos",
    "2": "bilinear",
    "3": "bicubic",
}


def interpolation(value: object) -> Interpolation:
    """The manifest's name of ``bicubic``, ``InterpolationMode.BICUBIC`` or Pillow's number 3.

    Raises:
        ModelError: a filter that is none of the manifest's, such as box or hamming.
    """
    name = str(getattr(value, "value", value)).rpartition(".")[2].lower()
    if name not in _NAMES:
        raise ModelError(f"interpolation {value!r} is none of nearest, bilinear, bicubic and lanczos")
    return _NAMES[name]
