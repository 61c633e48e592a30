"""Spectral normalisation: what it bounds, against singular values in float64, and what folding leaves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from tests.train.sets import CLASSES, SPEC, coloured
from train import checkpoint, models
from train.checkpoint import Checkpoint
from train.config import Config
from train.exceptions import TrainingError
from train.loop import CHECKPOINT, train
from train.methods import spectral
from train.normalize import Normalize
from train.trainer import Trainer

SNOJOE = Config(method="snojoe", arch="resnet20", epochs=2, batch_size=16, padding=1, precision="fp32")


def run(out: Path, rate: float, **changes: object) -> Checkpoint:
    config = Config(**{**vars(SNOJOE), "learning_rate": rate, **changes})
    train(config, SPEC, coloured(96), coloured(24, seed=1), out)
    return checkpoint.load(out / CHECKPOINT)


def convolutions(model: nn.Module) -> list[nn.Conv2d]:
    return [module for module in model.modules() if isinstance(module, nn.Conv2d)]


def norm(convolution: nn.Conv2d) -> float:
    return float(torch.linalg.svdvals(convolution.weight.detach().double().flatten(1))[0])


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, float], tuple[nn.Module, Checkpoint]]:
    """A run's network as it was trained, parametrised, and the checkpoint it left."""
    networks: list[nn.Module] = []
    init = Trainer.__init__

    def watched(trainer: Trainer, *args: object) -> None:
        init(trainer, *args)  # type: ignore[arg-type]
        networks.append(trainer.model)

    monkeypatch.setattr(Trainer, "__init__", watched)

    def start(out: Path, rate: float) -> tuple[nn.Module, Checkpoint]:
        left = run(out, rate)
        return networks[0].eval(), left

    return start


@pytest.mark.parametrize("rate", [1e-4, 0.1])
def test_norms_are_at_most_one_after_training_and_folding_keeps_the_outputs(
    trained: Callable[[Path, float], tuple[nn.Module, Checkpoint]], tmp_path: Path, rate: float
) -> None:
    model, left = trained(tmp_path, rate)
    folded = left.model()
    assert not any(parametrize.is_parametrized(module) for module in folded.modules())
    assert folded.state_dict().keys() == models.make("resnet20", len(CLASSES)).state_dict().keys()
    for network in (model, folded):
        norms = list(map(norm, convolutions(network)))
        assert norms[:9] == pytest.approx([1] * 9, abs=1e-3)
        assert max(norms[9:]) > 1.1
    images = Normalize(SPEC)(torch.from_numpy(coloured(8, seed=2).images))
    with torch.no_grad():
        for mine, reference in zip(folded(images), model(images), strict=True):
            torch.testing.assert_close(mine, reference, rtol=1e-6, atol=1e-6)


def test_settling_bounds_a_norm_that_has_moved() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 20, 3), nn.Conv2d(20, 5, 3))
    spectral.normalise(model, 2)
    with torch.no_grad():
        for convolution in convolutions(model):
            convolution.parametrizations.weight.original.copy_(torch.randn(convolution.weight.shape))
    model.eval()
    assert max(map(norm, convolutions(model))) > 1.1
    spectral.settle(model)
    model.eval()
    assert list(map(norm, convolutions(model))) == pytest.approx([1, 1], abs=1e-5)


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_the_first_layers_are_normalised(layers: int) -> None:
    model = models.make("resnet20", 3)
    spectral.normalise(model, layers)
    normalised = [parametrize.is_parametrized(convolution) for convolution in convolutions(model)]
    assert normalised == [True] * layers + [False] * (len(normalised) - layers)


@pytest.mark.parametrize("layers", [-1, 22])
def test_more_layers_than_there_are(layers: int) -> None:
    with pytest.raises(TrainingError, match=f"can't normalise {layers} layers: the network has 21 convolutions"):
        spectral.normalise(models.make("resnet20", 3), layers)


def test_no_layers_are_plain_binary_cross_entropy(tmp_path: Path) -> None:
    none = run(tmp_path / "none", 0.02, method_options={"layers": 0.0}, epochs=1).weights
    plain = run(tmp_path / "plain", 0.02, method="bce", epochs=1).weights
    assert none.keys() == plain.keys()
    assert all(torch.equal(none[name], tensor) for name, tensor in plain.items())


def test_folding_a_network_that_has_nothing_to_fold() -> None:
    model = models.make("resnet20", 3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert spectral.fold(model) is model
    assert not model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
