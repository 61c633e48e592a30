"""Random crop and horizontal flip of a whole batch at once; and two views of each image, to be told from those of others."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Crops:
    """Where each image of a batch is cut out of its zero-padded self, and which are mirrored.

    Attributes:
        padding: pixels added on each side before the crop.
        shifts: int64 (2, B), row and column of the corner, from 0 to 2 * padding.
        mirrored: bool (B,).
    """

    padding: int
    shifts: Tensor
    mirrored: Tensor

    @classmethod
    def draw(cls, count: int, padding: int, generator: torch.Generator) -> Crops:
        """Uniform shifts; half of the images mirrored."""
        shifts = torch.randint(0, 2 * padding + 1, (2, count), generator=generator)
        return cls(padding, shifts, torch.rand(count, generator=generator) < 0.5)

    def part(self, which: slice) -> Crops:
        """Those of some of the images."""
        return Crops(self.padding, self.shifts[:, which], self.mirrored[which])

    def apply(self, images: Tensor) -> Tensor:
        """uint8 (B, H, W, 3) -> uint8 (B, H, W, 3), on the device of the images."""
        count, height, width, _ = images.shape
        device, p = images.device, self.padding
        padded = F.pad(images, (0, 0, p, p, p, p))
        shifts = self.shifts.to(device)[:, :, None]
        rows = shifts[0] + torch.arange(height, device=device)  # (B, H)
        columns = shifts[1] + torch.arange(width, device=device)  # (B, W)
        columns = torch.where(self.mirrored.to(device)[:, None], columns.flip(1), columns)
        which = torch.arange(count, device=device)
        return padded[which[:, None, None], rows[:, :, None], columns[:, None, :]]


_LUMA = (0.299, 0.587, 0.114)
_SCALE, _RATIO = (0.2, 1.0), (3 / 4, 4 / 3)
_JITTER, _HUE = 0.4, 0.1


def views(images: Tensor, generator: torch.Generator, *, rotations: bool = False) -> tuple[Tensor, Tensor]:
    """Two random views of each image, as MoCo-v2 makes them for small images: resized crops, mirrored, of other colours.

    A crop has 20 to 100 % of the area and a ratio of sides of 3/4 to 4/3; four of five views get another brightness, contrast
    and saturation (0.6 to 1.4 times) and hue (up to a tenth of a turn, in YIQ); one of five becomes grey.

    Args:
        images: uint8 (B, H, W, 3).
        generator: of everything random, on the CPU.
        rotations: whether each image is turned by a random multiple of 90 degrees before, the same in both views; square
            images alone.

    Returns:
        float32 (B, H, W, 3) twice, in [0, 255].
    """
    x = images.permute(0, 3, 1, 2).float()
    if rotations:
        turns = torch.randint(0, 4, (len(x),), generator=generator).tolist()
        x = torch.stack([image.rot90(turn, (1, 2)) for image, turn in zip(x, turns, strict=True)])
    first, second = (_view(x, generator).permute(0, 2, 3, 1) for _ in range(2))
    return first, second


def _view(x: Tensor, generator: torch.Generator) -> Tensor:
    count, device = len(x), x.device

    def uniform(low: float, high: float) -> Tensor:
        return (low + (high - low) * torch.rand(count, generator=generator)).to(device)

    ratio = uniform(math.log(_RATIO[0]), math.log(_RATIO[1])).exp()
    area = uniform(*_SCALE)
    height, width = ((area / ratio).sqrt().clamp(max=1), (area * ratio).sqrt().clamp(max=1))
    theta = torch.zeros(count, 2, 3, device=device)
    theta[:, 0, 0] = width * torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    theta[:, 1, 1] = height
    theta[:, 0, 2], theta[:, 1, 2] = uniform(-1, 1) * (1 - width), uniform(-1, 1) * (1 - height)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    cropped = F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return _coloured(cropped, uniform)


def _coloured(x: Tensor, uniform: Callable[[float, float], Tensor]) -> Tensor:
    luma = torch.tensor(_LUMA, device=x.device)[:, None, None]

    def blend(other: Tensor, image: Tensor, factor: Tensor) -> Tensor:
        return (other + factor[:, None, None, None] * (image - other)).clamp(0, 255)

    def grey(image: Tensor) -> Tensor:
        return (image * luma).sum(dim=1, keepdim=True)

    jittered = blend(torch.zeros_like(x), x, uniform(1 - _JITTER, 1 + _JITTER))
    jittered = blend(grey(jittered).mean(dim=(2, 3), keepdim=True), jittered, uniform(1 - _JITTER, 1 + _JITTER))
    jittered = blend(grey(jittered), jittered, uniform(1 - _JITTER, 1 + _JITTER))
    jittered = _turned_hue(jittered, uniform(-_HUE, _HUE)).clamp(0, 255)
    x = torch.where((uniform(0, 1) < 0.8)[:, None, None, None], jittered, x)
    return torch.where((uniform(0, 1) < 0.2)[:, None, None, None], grey(x).expand_as(x), x)


def _turned_hue(x: Tensor, turns: Tensor) -> Tensor:
    """The colours (B, 3, H, W) turned about the axis of greys in YIQ, by shares of a turn (B,)."""
    forth = torch.tensor([_LUMA, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312)], device=x.device)
    cosine, sine = (2 * math.pi * turns).cos(), (2 * math.pi * turns).sin()
    turn = torch.zeros(len(x), 3, 3, device=x.device)
    turn[:, 0, 0] = 1
    turn[:, 1, 1], turn[:, 1, 2], turn[:, 2, 1], turn[:, 2, 2] = cosine, -sine, sine, cosine
    matrix = torch.linalg.inv(forth) @ turn @ forth
    return torch.einsum("bij,bjhw->bihw", matrix, x)
