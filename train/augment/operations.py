"""The operations of AutoAugment's family on whole batches, (B, 3, H, W) in [0, 255], each image by its own magnitude (B,).

Geometry is bilinear with black around; a magnitude of 0 (of solarize 256, of posterize 8) changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from train.augment.colours import blended, brightened, contrasted, saturated

Operation = Callable[[Tensor, Tensor], Tensor]


def sheared_x(x: Tensor, by: Tensor) -> Tensor:
    """Each row shifted by `by` times its number, from the top left corner."""
    return _mapped(x, 1, by, 0, 0, 1, 0)


def sheared_y(x: Tensor, by: Tensor) -> Tensor:
    """Each column shifted by `by` times its number."""
    return _mapped(x, 1, 0, 0, by, 1, 0)


def translated_x(x: Tensor, by: Tensor) -> Tensor:
    """Shifted to the right by pixels."""
    return _mapped(x, 1, 0, -by, 0, 1, 0)


def translated_y(x: Tensor, by: Tensor) -> Tensor:
    """Shifted down by pixels."""
    return _mapped(x, 1, 0, 0, 0, 1, -by)


def rotated(x: Tensor, by: Tensor) -> Tensor:
    """Turned anticlockwise about the centre, by degrees."""
    cosine, sine = torch.deg2rad(by).cos(), torch.deg2rad(by).sin()
    middle_x, middle_y = (x.shape[3] - 1) / 2, (x.shape[2] - 1) / 2
    shift_x = middle_x - cosine * middle_x + sine * middle_y
    shift_y = middle_y - sine * middle_x - cosine * middle_y
    return _mapped(x, cosine, -sine, shift_x, sine, cosine, shift_y)


def posterized(x: Tensor, bits: Tensor) -> Tensor:
    """The uppermost bits kept."""
    step = (2.0 ** (8 - bits))[:, None, None, None]
    return (x / step).floor() * step


def solarized(x: Tensor, threshold: Tensor) -> Tensor:
    """What is at least as bright inverted."""
    return torch.where(x >= threshold[:, None, None, None], 255 - x, x)


def sharpened(x: Tensor, factor: Tensor) -> Tensor:
    """s + f (x - s), with s smoothed by a kernel of 3 x 3 but for the border, as Pillow's SMOOTH."""
    kernel = torch.ones(3, 1, 3, 3, device=x.device)
    kernel[:, :, 1, 1] = 5
    smooth = x.clone()
    smooth[:, :, 1:-1, 1:-1] = F.conv2d(x, kernel / 13, groups=3)
    return blended(smooth, x, factor)


def autocontrasted(x: Tensor, _: Tensor) -> Tensor:
    """Each channel stretched from 0 to 255."""
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    return torch.where(high > low, (x - low) * (255 / (high - low).clamp(min=1e-6)), x)


def equalized(x: Tensor, _: Tensor) -> Tensor:
    """Each channel with an even histogram, as Pillow's ImageOps.equalize has it."""
    levels = x.round().clamp(0, 255).to(torch.int64).flatten(2).flatten(0, 1)  # (3 B, H W)
    counts = torch.zeros(len(levels), 256, dtype=torch.int64, device=x.device)
    counts.scatter_add_(1, levels, torch.ones_like(levels))
    last = counts.gather(1, levels.amax(1, keepdim=True))
    step = (levels.shape[1] - last) // 255
    below = counts.cumsum(1) - counts  # how many pixels are darker
    table = ((below + step // 2) // step.clamp(min=1)).clamp(0, 255)
    even = torch.where(step > 0, table.gather(1, levels), levels)
    return even.reshape(x.shape).to(x.dtype)


def unchanged(x: Tensor, _: Tensor) -> Tensor:
    """The images themselves."""
    return x


def of_factor(change: Operation) -> Operation:
    """An operation with a factor as one with a magnitude around 0."""
    return lambda x, by: change(x, 1 + by)


def apply(operations: list[Operation], x: Tensor, chosen: Tensor, magnitudes: Tensor) -> Tensor:
    """To each image the operation of its number.

    Args:
        operations: by number.
        x: (B, 3, H, W).
        chosen: numbers, int64 (B,).
        magnitudes: float32 (B,).
    """
    result = x.clone()
    for number in torch.unique(chosen).tolist():
        which = (chosen == number).nonzero().flatten().to(x.device)
        result[which] = operations[number](x[which], magnitudes[chosen == number].to(x.device)).clamp(0, 255)
    return result


BRIGHTNESS, COLOUR = of_factor(brightened), of_factor(saturated)
CONTRAST, SHARPNESS = of_factor(contrasted), of_factor(sharpened)


def _mapped(x: Tensor, *matrix: Tensor | float) -> Tensor:
    """The image whose pixel (u, v) is the original's (a u + b v + c, d u + e v + f), columns before rows."""
    count, _, height, width = x.shape
    a, b, c, d, e, f = (
        torch.as_tensor(value, dtype=x.dtype, device=x.device).expand(count)[:, None, None] for value in matrix
    )
    v, u = torch.meshgrid(
        torch.arange(height, dtype=x.dtype, device=x.device),
        torch.arange(width, dtype=x.dtype, device=x.device),
        indexing="ij",
    )
    columns, rows = a * u + b * v + c, d * u + e * v + f
    grid = torch.stack([2 * columns / max(width - 1, 1) - 1, 2 * rows / max(height - 1, 1) - 1], dim=-1)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
