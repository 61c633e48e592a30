"""The small network of airbench94 (Jordan 2024, arXiv:2404.00498), made to learn CIFAR-10 in few epochs.

Six convolutions of 3x3, of which the first sees the image through whitened 2x2 patches (Page 2018). Ours: ReLU in place of
GELU, so that what the last layer sees is not negative; the logits' scale, 1 / 9, in front of the last layer in place of
behind it, which but for the bias is the same network; the whitening's bias learns to the end, not for three epochs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_PATCH = 2
_SCALE = 1 / 9  # of the logits
_MOMENTUM = 0.4  # of the running statistics; few steps make them
_BIAS = 8.0  # a shift of batch normalisation is this times its weight, which then learns 64 times as fast
_EPSILON = 5e-4  # added to the variances of patches
_CHUNK = 500


class Whitening(nn.Conv2d):
    """Each patch projected on the principal components of training images' patches, to unit variance, and on their negatives.

    The projection does not learn, only its bias does. Before :meth:`fit` it is random.
    """

    def __init__(self) -> None:
        super().__init__(3, 2 * 3 * _PATCH**2, _PATCH)
        self.weight.requires_grad_(False)
        nn.init.zeros_(self.bias)  # type: ignore[arg-type]  # there is one

    @torch.no_grad()
    def fit(self, images: Tensor) -> None:
        """Take the components from normalised images (N, 3, H, W)."""
        size = 3 * _PATCH**2
        total, count = torch.zeros(size, size, dtype=torch.float64), 0
        for chunk in torch.split(images, _CHUNK):
            patches = F.unfold(chunk.cpu().double(), _PATCH).transpose(1, 2).reshape(-1, size)
            total += patches.T @ patches
            count += len(patches)
        variances, vectors = torch.linalg.eigh(total / count)
        components = (vectors / (variances + _EPSILON).sqrt()).T.flip(0).reshape(size, 3, _PATCH, _PATCH)
        self.weight.copy_(torch.cat([components, -components]))


class Normalisation(nn.Module):
    """Batch normalisation without a scale, and a shift that learns fast."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels, momentum=_MOMENTUM)
        for parameter in self.bn.parameters():
            parameter.requires_grad_(False)
        self.shift = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn(x)
        return y + _BIAS * self.shift


class Block(nn.Module):
    """Two 3x3 convolutions, which begin as identities on as many channels as there are; half the resolution between them."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm1 = Normalisation(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = Normalisation(outputs)
        for conv in (self.conv1, self.conv2):
            nn.init.dirac_(conv.weight[: conv.in_channels].detach())

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm1(F.max_pool2d(self.conv1(x), 2)))
        return F.relu(self.norm2(self.conv2(x)))


class Airbench(nn.Module):
    """Whitening, blocks, the largest of each feature map, one linear layer."""

    def __init__(self, num_classes: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.conv1 = Whitening()
        inputs = self.conv1.out_channels
        blocks = []
        for width in widths:
            blocks.append(Block(inputs, width))
            inputs = width
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(inputs, num_classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, 3, H, W), normalised, 10 pixels or more -> logits (B, K), penultimate (B, D), non-negative."""
        x = self.blocks(F.relu(self.conv1(x)))
        penultimate = _SCALE * F.adaptive_max_pool2d(x, 1).flatten(1)
        return self.fc(penultimate), penultimate


def airbench(num_classes: int) -> Airbench:
    """2.0 M weights, D = 256."""
    return Airbench(num_classes, widths=(64, 256, 256))


def airbench_half(num_classes: int) -> Airbench:
    """0.5 M weights, D = 128: half the width, a third of the time."""
    return Airbench(num_classes, widths=(32, 128, 128))
