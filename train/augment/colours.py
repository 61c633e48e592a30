"""Brightness, contrast, saturation and hue of whole batches, (B, 3, H, W) in [0, 255], each image by its own factor (B,)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Uniform = Callable[[float, float], Tensor]  # of an interval, one number an image

_LUMA = (0.299, 0.587, 0.114)


def brightened(x: Tensor, factor: Tensor) -> Tensor:
    """f x."""
    return blended(torch.zeros_like(x), x, factor)


def contrasted(x: Tensor, factor: Tensor) -> Tensor:
    """m + f (x - m), with m the mean of the grey image."""
    return blended(grey(x).mean(dim=(2, 3), keepdim=True), x, factor)


def saturated(x: Tensor, factor: Tensor) -> Tensor:
    """g + f (x - g), with g the grey image."""
    return blended(grey(x), x, factor)


def jittered(x: Tensor, uniform: Uniform, strength: float) -> Tensor:
    """Another brightness, contrast and saturation, 1 - strength to 1 + strength times."""
    for change in (brightened, contrasted, saturated):
        x = change(x, uniform(1 - strength, 1 + strength))
    return x


def blended(other: Tensor, x: Tensor, factor: Tensor) -> Tensor:
    """other + f (x - other)."""
    return (other + factor[:, None, None, None] * (x - other)).clamp(0, 255)


def grey(x: Tensor) -> Tensor:
    """(B, 1, H, W), ITU-R 601."""
    return (x * torch.tensor(_LUMA, device=x.device)[:, None, None]).sum(dim=1, keepdim=True)


def turned(x: Tensor, turns: Tensor) -> Tensor:
    """The colours turned about the axis of greys in YIQ, by shares of a turn (B,)."""
    forth = torch.tensor([_LUMA, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312)], device=x.device)
    cosine, sine = (2 * math.pi * turns).cos(), (2 * math.pi * turns).sin()
    turn = torch.zeros(len(x), 3, 3, device=x.device)
    turn[:, 0, 0] = 1
    turn[:, 1, 1], turn[:, 1, 2], turn[:, 2, 1], turn[:, 2, 2] = cosine, -sine, sine, cosine
    matrix = torch.linalg.inv(forth) @ turn @ forth
    return torch.einsum("bij,bjhw->bihw", matrix, x)


def uniform_of(generator: torch.Generator, count: int, device: torch.device) -> Uniform:
    """Draws one number an image, uniform in an interval."""

    def uniform(low: float, high: float) -> Tensor:
        return (low + (high - low) * torch.rand(count, generator=generator)).to(device)

    return uniform
