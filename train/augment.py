"""Random crop and horizontal flip of a whole batch at once."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def crop_flip(images: Tensor, padding: int) -> Tensor:
    """Cut each image at a random place out of its zero-padded self, and mirror half of them, by torch's global generator.

    Args:
        images: uint8 (B, H, W, 3).
        padding: pixels added on each side before the crop.

    Returns:
        uint8 (B, H, W, 3).
    """
    count, height, width, _ = images.shape
    padded = F.pad(images, (0, 0, padding, padding, padding, padding))
    device = images.device
    shifts = torch.randint(0, 2 * padding + 1, (2, count, 1), device=device)
    rows = shifts[0] + torch.arange(height, device=device)  # (B, H)
    columns = shifts[1] + torch.arange(width, device=device)  # (B, W)
    flip = torch.rand(count, 1, device=device) < 0.5
    columns = torch.where(flip, columns.flip(1), columns)
    which = torch.arange(count, device=device)
    return padded[which[:, None, None], rows[:, :, None], columns[:, None, :]]
