"""What is said of a network before it is differentiated twice."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from tests.train.methods.double_backward.gradients import random
from train import models
from train.exceptions import TrainingError
from train.methods.double_backward.examine import examine
from train.methods.energy import energy

IMAGES = random(2, 3, 8, 8, dtype=torch.float32)


class Pair(nn.Sequential):
    """A sequence of layers and its mean pixel, as networks answer."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        y = super().forward(x)
        return y.flatten(1), y


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004
        return x.square()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ARG004
        return gradients[0]


class Squared(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = Once.apply(x)  # type: ignore[no-untyped-call]
        return y


def test_nothing_is_said_of_networks_of_fast_layers() -> None:
    model = models.make("resnet20", 5).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert examine(model, IMAGES, energy) == []
    assert not model.training
    assert not model._forward_hooks
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("half", [False, True])
def test_slow_layers_are_named(half: bool) -> None:
    layers = [nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.Conv2d(4, 4, 3, padding="same"), nn.LayerNorm([4, 6, 6])]
    layers += [nn.GroupNorm(2, 4) for _ in range(4)]
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        found = examine(Pair(*layers), IMAGES, lambda logits: energy(logits.float()))
    assert found == [
        "5 x group_norm, differentiated twice by torch's own formulas, exact and slow: 1, 4, 5, ...",
        "1 x conv2d, differentiated twice by torch's own formulas, exact and slow: 2",
        "1 x layer_norm, differentiated twice by torch's own formulas, exact and slow: 3",
    ]


def test_a_network_without_second_derivative_is_refused() -> None:
    with pytest.raises(TrainingError, match=r"a layer has none .*once_differentiable.*take another --arch"):
        examine(Pair(nn.Conv2d(3, 4, 3), Squared()), IMAGES, energy)


def test_a_score_whose_gradient_no_weight_changes_is_refused() -> None:
    with pytest.raises(TrainingError, match="does not require grad"):
        examine(Pair(nn.Flatten()), IMAGES, lambda logits: logits.sum(dim=1))


def test_checkpointed_and_ungraded_networks_are_refused() -> None:
    class Saving(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = checkpoint(self.inner, x, use_reentrant=True)
            return found

    with pytest.raises(TrainingError, match="needs the network's second derivative, and a layer has none"):
        examine(Pair(Saving()), IMAGES, energy)
    with pytest.raises(TrainingError, match="needs the network's second derivative, and a layer has none"):
        examine(Pair(Ungraded()), IMAGES, energy)


class Ungraded(nn.Module):
    """A backbone that is not to learn, as some write it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return x * 2


def test_other_faults_are_not_taken_for_it() -> None:
    with pytest.raises(RuntimeError, match="expected input"):
        examine(Pair(nn.Conv2d(4, 4, 3)), IMAGES, energy)
