"""Densely connected networks for small images (Huang et al. 2017, arXiv:1608.06993), with bottlenecks and compression:
the paper's DenseNet-BC."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.models.resnet import initialise

_BOTTLENECK = 4  # channels of a layer's 1x1 convolution, in growth rates


class DenseLayer(nn.Module):
    """BN-ReLU-1x1 and BN-ReLU-3x3 convolutions; `growth` channels are added to the input."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, _BOTTLENECK * growth, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(_BOTTLENECK * growth)
        self.conv2 = nn.Conv2d(_BOTTLENECK * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.bn2(self.conv1(F.relu(self.bn1(x))))))
        return torch.cat([x, y], dim=1)


class Transition(nn.Module):
    """BN-ReLU-1x1 convolution to fewer channels, then half the resolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(inputs)
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.conv(F.relu(self.bn(x))), 2)


class DenseNet(nn.Module):
    """Three blocks of ``(depth - 4) / 6`` dense layers; between them `reduction` times the channels go on."""

    def __init__(self, num_classes: int, depth: int, growth: int, reduction: float) -> None:
        super().__init__()
        channels = 2 * growth
        self.conv1 = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        blocks: list[nn.Module] = []
        for i in range(3):
            if i > 0:
                inputs, channels = channels, int(channels * reduction)
                blocks.append(Transition(inputs, channels))
            for _ in range((depth - 4) // 6):
                blocks.append(DenseLayer(channels, growth))
                channels += growth
        self.blocks = nn.Sequential(*blocks)
        self.bn = nn.BatchNorm2d(channels)
        self.fc = nn.Linear(channels, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, 3, H, W), normalised -> logits (B, K), penultimate (B, D), non-negative."""
        penultimate = F.relu(self.bn(self.blocks(self.conv1(x)))).mean(dim=(2, 3))
        return self.fc(penultimate), penultimate


def densenet_bc_100(num_classes: int) -> DenseNet:
    """0.77 M weights, D = 342; growth 12, half the channels after each block (the paper's table 2)."""
    return DenseNet(num_classes, depth=100, growth=12, reduction=0.5)
