"""Networks of timm, by a stand-in with the part of its interface that is used."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from train import models
from train.exceptions import TrainingError


class Network(nn.Module):
    """What timm's networks have in common."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3)
        self.head = classifier

    def forward_features(self, x: Tensor) -> Tensor:
        return self.stem(x).relu()

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = x.mean(dim=(2, 3))
        return x if pre_logits else self.head(x)

    def get_classifier(self) -> nn.Module:
        return self.head

    def reset_classifier(self, num_classes: int) -> None:
        assert num_classes == 0
        self.head = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Network]:
    """A module `timm` that knows three networks; what it has made."""
    networks: list[Network] = []
    timm = ModuleType("timm")

    def create_model(name: str, num_classes: int) -> Network:
        classifiers = {
            "linear": nn.Linear,
            "conv": lambda *size: nn.Conv2d(*size, 1),
            "two": lambda *_: nn.ModuleList(),
        }
        if name not in classifiers:
            raise RuntimeError(f"Unknown model ({name})")
        networks.append(Network(classifiers[name](6, num_classes)))
        return networks[-1]

    timm.create_model = create_model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "timm", timm)
    return networks


def test_logits_and_penultimate(made: list[Network]) -> None:
    model = models.make("timm:linear", 4)
    made[0].head = model.fc
    images = torch.randn(2, 3, 8, 8)
    logits, penultimate = model(images)
    assert torch.equal(logits, made[0](images))
    assert torch.equal(penultimate, made[0].forward_features(images).mean(dim=(2, 3)))
    assert logits.shape == (2, 4)


@pytest.mark.usefixtures("made")
def test_the_last_layer_is_saved_once() -> None:
    assert set(models.make("timm:linear", 4).state_dict()) == {
        "network.stem.weight", "network.stem.bias", "fc.weight", "fc.bias"
    }  # fmt: skip


@pytest.mark.usefixtures("made")
def test_with_the_projection_head() -> None:
    logits, hidden = models.make("timm:linear+nan", 4)(torch.randn(2, 3, 8, 8))
    assert (logits.shape, hidden.shape) == ((2, 4), (2, 512))
    assert (hidden >= 0).all()


@pytest.mark.usefixtures("made")
def test_unknown_to_timm() -> None:
    with pytest.raises(TrainingError, match=r"timm:resnet51: timm can't make this network: Unknown model \(resnet51\)"):
        models.make("timm:resnet51", 4)


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize(("name", "found"), [("conv", "Conv2d"), ("two", "ModuleList")])
def test_another_kind_of_last_layer(name: str, found: str) -> None:
    with pytest.raises(
        TrainingError, match=f"timm:{name}: expected a network that ends in one linear layer, found {found}"
    ):
        models.make(f"timm:{name}", 4)


def test_without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(TrainingError, match=r"timm:resnet50 needs the timm library; install it: pip install timm"):
        models.make("timm:resnet50", 4)
