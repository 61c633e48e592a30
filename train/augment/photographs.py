"""What photographs are trained with: random resized crop (Szegedy et al. 2015), flip, colour jitter (Howard 2013)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from train.augment.colours import Uniform, jittered, uniform_of

_SCALE, _RATIO = (0.25, 1.0), (3 / 4, 4 / 3)
_JITTER = 0.4


def cropped_and_jittered(x: Tensor, generator: torch.Generator) -> Tensor:
    """Crops of 25 to 100 % of the area, half of them mirrored, with 0.6 to 1.4 times the brightness, contrast, saturation.

    Args:
        x: (B, 3, H, W) in [0, 255].
        generator: of everything random, on the CPU.
    """
    uniform = uniform_of(generator, len(x), x.device)
    return jittered(resized_crops(x, uniform, _SCALE), uniform, _JITTER)


def resized_crops(x: Tensor, uniform: Uniform, scale: tuple[float, float]) -> Tensor:
    """Crops of a share of the area and a ratio of sides of 3/4 to 4/3 times the image's, half of them mirrored, at its size.

    Args:
        x: (B, 3, H, W).
        uniform: draws one number an image.
        scale: the smallest and the largest share.
    """
    ratio = uniform(math.log(_RATIO[0]), math.log(_RATIO[1])).exp()
    area = uniform(*scale)
    height, width = ((area / ratio).sqrt().clamp(max=1), (area * ratio).sqrt().clamp(max=1))
    theta = torch.zeros(len(x), 2, 3, device=x.device)
    theta[:, 0, 0] = width * torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    theta[:, 1, 1] = height
    theta[:, 0, 2], theta[:, 1, 2] = uniform(-1, 1) * (1 - width), uniform(-1, 1) * (1 - height)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
