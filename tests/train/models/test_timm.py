"""Networks of timm, by a stand-in with the part of its interface that is used, and the library itself where it is."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from train import models
from train.exceptions import ModelError


class Network(nn.Module):
    """What timm's networks have in common."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3)
        self.head = classifier

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu().mean(dim=(2, 3))
        if isinstance(self.head, nn.Conv2d):
            return self.head(x[:, :, None, None]).flatten(1)
        return (
            torch.stack([head(x) for head in self.head]).mean(0)
            if isinstance(self.head, nn.ModuleList)
            else self.head(x)
        )


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Network]:
    """A module `timm` that knows three networks; what it has made."""
    networks: list[Network] = []
    timm: Any = ModuleType("timm")

    def create_model(name: str, pretrained: bool) -> Network:
        assert not pretrained
        classifiers = {
            "linear": lambda: nn.Linear(6, 7),
            "conv": lambda: nn.Conv2d(6, 7, 1),
            "two": lambda: nn.ModuleList([nn.Linear(6, 7), nn.Linear(6, 7)]),
        }
        if name not in classifiers:
            raise RuntimeError(f"Unknown model ({name})")
        networks.append(Network(classifiers[name]()))
        return networks[-1]

    data = {
        "input_size": (3, 12, 12),
        "crop_pct": 0.9,
        "mean": (0.5,) * 3,
        "std": (0.2,) * 3,
        "interpolation": "bicubic",
    }
    timm.create_model = create_model
    timm.data = SimpleNamespace(resolve_data_config=lambda *_, **__: data)
    monkeypatch.setitem(sys.modules, "timm", timm)
    return networks


@pytest.mark.parametrize("name", ["linear", "conv"])
def test_logits_and_penultimate(made: list[Network], name: str) -> None:
    model = models.make(f"timm:{name}", 4)
    images = torch.randn(2, 3, 8, 8)
    logits, penultimate = model(images)
    stem = made[-1].stem  # of the one built last, which has the weights
    features = stem(images).relu().mean(dim=(2, 3))
    torch.testing.assert_close(penultimate, features)
    torch.testing.assert_close(logits, features @ model.fc.weight.T + model.fc.bias)
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
    with pytest.raises(ModelError, match=r"timm can't build resnet51: Unknown model \(resnet51\)"):
        models.make("timm:resnet51", 4)


@pytest.mark.usefixtures("made")
def test_two_last_layers() -> None:
    with pytest.raises(ModelError, match=r"timm:two: its logits \[2, 7\] are not the output of one last linear layer"):
        models.make("timm:two", 4)


def test_without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModelError, match="--arch timm:resnet50 needs the package timm: pip install timm"):
        models.make("timm:resnet50", 4)


def test_the_library_itself() -> None:
    pytest.importorskip("timm")
    started = models.start("timm:mobilenetv3_small_050", None, None, (32, 32))
    assert started.built.description.size == (224, 224)
    assert (started.origin.head, started.classes) == ("classifier", 1000)
    model = models.make("timm:mobilenetv3_small_050", 3, started).eval()
    again = models.make("timm:mobilenetv3_small_050", 3, started.origin).eval()
    again.load_state_dict(model.state_dict())
    images = torch.randn(2, 3, 32, 32)
    for found, expected in zip(again(images), model(images), strict=True):
        torch.testing.assert_close(found, expected)
