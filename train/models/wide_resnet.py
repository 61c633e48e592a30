"""Wide residual networks (Zagoruyko & Komodakis 2016, arXiv:1605.07146), the backbone of the papers' CIFAR tables."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from train.models.resnet import initialise


class PreActivationBlock(nn.Module):
    """BN-ReLU before each 3x3 convolution, dropout between them; where the width changes, both branches see the
    activated input."""

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        activated = F.relu(self.bn1(x))
        y: Tensor = self.conv2(self.dropout(F.relu(self.bn2(self.conv1(activated)))))
        shortcut: Tensor = x if self.shortcut is None else self.shortcut(activated)
        return y + shortcut


class WideResNet(nn.Module):
    """Three stages of ``(depth - 4) / 6`` blocks with 16, 32 and 64 times `widen` channels."""

    def __init__(self, num_classes: int, depth: int, widen: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        blocks = []
        inputs = 16
        for i, width in enumerate((16 * widen, 32 * widen, 64 * widen)):
            for j in range((depth - 4) // 6):
                stride = 2 if i > 0 and j == 0 else 1
                blocks.append(PreActivationBlock(inputs, width, stride, dropout))
                inputs = width
        self.blocks = nn.Sequential(*blocks)
        self.bn = nn.BatchNorm2d(inputs)
        self.fc = nn.Linear(inputs, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, 3, H, W), normalised -> logits (B, K), penultimate (B, D), non-negative."""
        penultimate = F.relu(self.bn(self.blocks(self.conv1(x)))).mean(dim=(2, 3))
        return self.fc(penultimate), penultimate


def wrn_40_2(num_classes: int, dropout: float = 0.3) -> WideResNet:
    """2.2 M weights, D = 128; dropout 0.3 as in logitnorm, section 4.1."""
    return WideResNet(num_classes, depth=40, widen=2, dropout=dropout)
