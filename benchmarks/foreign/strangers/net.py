"""A network of somebody, beside no package: what ``--model file.py:class`` builds."""

from __future__ import annotations

import torch
from torch import nn


class Small(nn.Module):
    """`channels` in, 5 classes."""

    def __init__(self, channels: int = 3, features: int = 16, classes: int = 5) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, features, 5, 2), nn.ReLU(), nn.Conv2d(features, features, 3, 2), nn.ReLU()
        )
        self.fc = nn.Linear(features, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.fc(self.stem(x).mean(dim=(2, 3)))
        return logits


class ChannelsLast(Small):
    """The same of NHWC."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(0, 3, 1, 2))
