"""The first layer of every network here and in the exported graph: uint8 pixels to normalised floats."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from runtime.manifest import InputSpec


class Normalize(nn.Module):
    """``(x / 255 - mean) / std`` as one multiplication and one addition, NHWC to NCHW by a view."""

    scale: Tensor
    shift: Tensor

    def __init__(self, spec: InputSpec) -> None:
        super().__init__()
        mean = torch.tensor(spec.mean, dtype=torch.float64)
        std = torch.tensor(spec.std, dtype=torch.float64)
        self.register_buffer("scale", (1 / (255 * std)).float(), persistent=False)
        self.register_buffer("shift", (-mean / std).float(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (B, H, W, 3) -> float32 (B, 3, H, W), channels-last in memory."""
        return (images.float() * self.scale + self.shift).permute(0, 3, 1, 2)
