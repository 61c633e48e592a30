"""Random crop of a zero-padded image and horizontal flip, of a whole batch at once."""

from __future__ import annotations

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
