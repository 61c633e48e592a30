"""How an image becomes the model's input."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Resize = Literal["center", "squash", "border"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]


@dataclass(frozen=True)
class InputSpec:
    """How an image becomes the model's input.

    Attributes:
        height, width: the graph's image size in pixels.
        mean, std: per RGB channel, of pixels scaled to [0, 1]; applied inside the graph as ``(x / 255 - mean) / std``.
        resize: ``center`` (largest centred box), ``squash`` (stretch) or ``border`` (fit, pad with white).
        crop_fraction: with ``center``, the share of the box's side that is kept; 0.875 is the ImageNet habit
            "resize to 256, crop 224".
        interpolation: Pillow's antialiased resampling filter.
    """

    height: int
    width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: Resize = "center"
    crop_fraction: float = 1.0
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(f"input size must be positive, found {self.height} x {self.width}")
        if not 0 < self.crop_fraction <= 1:
            raise ValueError(f"crop_fraction must be in (0, 1], found {self.crop_fraction}")
        if not all(map(math.isfinite, self.mean + self.std)) or min(self.std) <= 0:
            raise ValueError(f"mean must be finite and std positive, found {self.mean} and {self.std}")
