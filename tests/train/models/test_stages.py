"""Stages of backbones, counted by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from train import models
from train.config import Config
from train.loop.groups import Groups
from train.models.stages import backbone_of, find, head_of

IMAGES = torch.randn(2, 3, 32, 32)


@pytest.mark.parametrize(
    ("arch", "count", "first", "last"),
    [
        ("resnet20", 1 + 9, "conv1", "blocks.8"),
        ("resnet20+nan", 1 + 9, "conv1", "blocks.8"),
        ("wrn-40-2", 1 + 18 + 1, "conv1", "bn"),
        (
            "efficientnet_lite_pytorch:EfficientNet.from_name('efficientnet-lite0')",
            1 + 16 + 1,
            "_conv_stem",
            "_conv_head",
        ),
    ],
)
def test_blocks_and_what_stands_around_them(arch: str, count: int, first: str, last: str) -> None:
    model = models.make(arch, 4)
    stages = find(model, IMAGES)
    assert (len(stages), stages[0].name, stages[-1].name) == (count, first, last)
    weights = [id(weight) for stage in stages for weight in stage.parameters()]
    head = [id(weight) for part in head_of(model) for weight in part.parameters()]
    assert sorted(weights + head) == sorted(id(weight) for weight in model.parameters())


class Block(nn.Module):
    """Two layers around a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inside(x)


class Tokens(nn.Module):
    """A transformer's shape: a token of its own, embeddings, an encoder that is only a place for its blocks, a norm; and not
    registered in the order in which they are called."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.token = nn.Parameter(torch.zeros(8))
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList(Block() for _ in range(3))
        self.embed = nn.Conv2d(3, 8, 16, 16)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.embed(x).flatten(2).mean(2) + self.token
        for layer in reversed(list(self.encoder.layers)):
            x = layer(x)
        x = self.norm(x)
        return self.fc(x), x


def test_in_the_order_of_the_forward_pass() -> None:
    model = Tokens()
    stages = find(model, IMAGES)
    names = ["embed", "encoder.layers.2", "encoder.layers.1", "encoder.layers.0", "norm"]
    assert [stage.name for stage in stages] == names
    assert stages[0].own == (model.token,)
    assert not any(weight is model.fc.weight for stage in stages for weight in stage.parameters())


def test_a_convolution_with_its_norm_is_a_stage() -> None:
    """Of a plain row of layers, as of VGG."""
    model = nn.Module()
    model.features = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3),
        nn.BatchNorm2d(4),
    )
    model.fc = nn.Linear(4, 2)
    model.forward = lambda x: (None, model.fc(model.features(x).mean((2, 3))))  # type: ignore[method-assign]
    stages = find(model, IMAGES)
    assert [stage.name for stage in stages] == ["features.0", "features.3", "features.5"]
    assert [len(stage.modules) for stage in stages] == [2, 1, 2]


def test_a_norm_without_weights_belongs_to_what_it_follows() -> None:
    """Or its statistics would go on while all around it is frozen."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
            self.bn = nn.BatchNorm2d(4, affine=False)
            self.fc = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            features = self.bn(self.block(x)).mean((2, 3))
            return self.fc(features), features

    model = Net()
    config = Config(method="cross-entropy", arch="net", epochs=1, freeze="all-but-head")
    Groups.of(config, model, 8, 8).freeze()
    model.train()
    before = {name: value.clone() for name, value in model.named_buffers()}
    model(torch.randn(4, 3, 8, 8))
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())


def test_the_backbone_is_behind_its_wrappers() -> None:
    model = models.make("resnet20+nan", 3)
    assert backbone_of(model) is model.backbone
    assert [type(part) for part in head_of(model)] == [nn.Linear, nn.Linear, nn.Linear]
