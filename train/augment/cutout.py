"""Cutout (DeVries & Taylor 2017, arXiv:1708.04552): a square of each image is hidden."""

from __future__ import annotations

import torch
from torch import Tensor

_SHARE = 3 / 8  # of the short side: 12 of CIFAR-10's 32 pixels, as in airbench96 (Jordan 2024)


def cutout(x: Tensor, generator: torch.Generator) -> Tensor:
    """A square somewhere within each image takes the batch's mean colour.

    Args:
        x: (B, 3, H, W) in [0, 255].
        generator: of everything random, on the CPU.
    """
    height, width = x.shape[2:]
    side = round(_SHARE * min(height, width))
    rows, columns = (_covered(len(x), size, side, generator).to(x.device) for size in (height, width))
    hidden = rows[:, None, :, None] & columns[:, None, None, :]
    return torch.where(hidden, x.mean(dim=(0, 2, 3), keepdim=True), x)


def _covered(count: int, size: int, side: int, generator: torch.Generator) -> Tensor:
    """bool (count, size): which of an axis's pixels are the square's."""
    first = torch.randint(0, size - side + 1, (count, 1), generator=generator)
    pixels = torch.arange(size)
    return (pixels >= first) & (pixels < first + side)
