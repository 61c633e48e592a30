"""ResNets for small images (He et al. 2016, arXiv:1512.03385), with a 3x3 stem and no initial pooling.

ResNet-20 is the CIFAR network of the paper's section 4.2 with projection shortcuts; ResNet-18 has the
paper's ImageNet stages (64 to 512 channels) on the small stem, as is usual in the out-of-distribution literature.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """Stages of basic blocks, the resolution halved between stages, global average pooling, one linear layer.

    Args:
        num_classes: K.
        blocks: number of blocks of each stage.
        widths: channels of each stage; the last is D.
    """

    def __init__(self, num_classes: int, blocks: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        stages = []
        inputs = widths[0]
        for i, (count, width) in enumerate(zip(blocks, widths, strict=True)):
            stages.append(BasicBlock(inputs, width, stride=1 if i == 0 else 2))
            stages.extend(BasicBlock(width, width, stride=1) for _ in range(count - 1))
            inputs = width
        self.blocks = nn.Sequential(*stages)
        self.fc = nn.Linear(inputs, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, 3, H, W), normalised -> logits (B, K), penultimate (B, D), non-negative."""
        x = F.relu(self.bn1(self.conv1(x)))
        penultimate = self.blocks(x).mean(dim=(2, 3))
        return self.fc(penultimate), penultimate


def initialise(model: nn.Module) -> None:
    """He initialisation of the convolutions (arXiv:1502.01852)."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def resnet20(num_classes: int) -> ResNet:
    """0.27 M weights, D = 64."""
    return ResNet(num_classes, blocks=(3, 3, 3), widths=(16, 32, 64))


def resnet18(num_classes: int) -> ResNet:
    """11.2 M weights, D = 512."""
    return ResNet(num_classes, blocks=(2, 2, 2, 2), widths=(64, 128, 256, 512))
