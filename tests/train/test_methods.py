"""Methods: how they are chosen, and the loss each makes of a batch."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from train import methods
from train.exceptions import TrainingError
from train.methods import Batch

LOGITS = [[2.0, 1.0, -1.0], [0.0, 3.0, 0.5]]
LABELS = [0, 2]


class Fixed(nn.Module):
    """Answers with the same logits, whatever the image."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(LOGITS, dtype=dtype))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.logits.repeat(len(images) // 2, 1) + 0 * images.sum(), torch.zeros(len(images), 4)


BATCH = Batch(torch.zeros(2, 3, 8, 8), torch.tensor(LABELS), outliers=torch.zeros(2, 3, 8, 8))


def mean_loss(scale: Callable[[list[float]], float]) -> float:
    """-log softmax of the label, of logits times `scale` of their row."""
    losses = []
    for row, label in zip(LOGITS, LABELS, strict=True):
        scaled = [scale(row) * value for value in row]
        losses.append(math.log(sum(map(math.exp, scaled))) - scaled[label])
    return sum(losses) / len(losses)


def test_cross_entropy() -> None:
    step = methods.make("cross-entropy", {}).step(Fixed(), BATCH)
    assert step.loss.item() == pytest.approx(mean_loss(lambda _: 1), rel=1e-6)
    assert step.logits.tolist() == LOGITS


@pytest.mark.parametrize(("options", "tau"), [({}, 0.04), ({"tau": 1}, 1), ({"tau": 0.5}, 0.5)])
def test_logitnorm(options: dict[str, float], tau: float) -> None:
    step = methods.make("logitnorm", options).step(Fixed(), BATCH)
    assert step.loss.item() == pytest.approx(mean_loss(lambda row: 1 / (tau * math.hypot(*row))), rel=1e-5)
    assert step.logits.tolist() == LOGITS


def logsumexp(row: list[float]) -> float:
    return math.log(sum(map(math.exp, row)))


def test_logit_penalty() -> None:
    step = methods.make("logit-penalty", {"weight": 0.5}).step(Fixed(), BATCH)
    norm = sum(math.hypot(*row) for row in LOGITS) / 2
    assert step.loss.item() == pytest.approx(mean_loss(lambda _: 1) + 0.5 * norm, rel=1e-6)


def test_energy() -> None:
    """Images and outliers get the same logits here, so both hinges see the same energies."""
    step = methods.make("energy", {"weight": 2.0, "m_in": -3.0, "m_aux": -1.0}).step(Fixed(), BATCH)
    energies = [-logsumexp(row) for row in LOGITS]
    hinges = [max(0, e + 3) ** 2 + max(0, -1 - e) ** 2 for e in energies]
    assert step.loss.item() == pytest.approx(mean_loss(lambda _: 1) + 2 * sum(hinges) / 2, rel=1e-6)
    assert step.logits.tolist() == LOGITS


def test_outlier_exposure() -> None:
    step = methods.make("oe", {"weight": 0.25}).step(Fixed(), BATCH)
    uniform = sum(logsumexp(row) - sum(row) / 3 for row in LOGITS) / 2
    assert step.loss.item() == pytest.approx(mean_loss(lambda _: 1) + 0.25 * uniform, rel=1e-6)


@pytest.mark.parametrize("name", methods.METHODS)
def test_losses_are_float32_where_the_network_is_not(name: str) -> None:
    step = methods.make(name, {}).step(Fixed(torch.bfloat16), BATCH)
    assert step.loss.dtype == step.logits.dtype == torch.float32


@pytest.mark.parametrize("name", methods.METHODS)
def test_the_loss_can_be_descended(name: str) -> None:
    model = Fixed()
    methods.make(name, {}).step(model, BATCH).loss.backward()
    assert model.logits.grad is not None
    assert model.logits.grad.any()


def test_unknown_method_lists_the_known() -> None:
    with pytest.raises(TrainingError, match=r"'crossentropy'; choose one of cross-entropy, logitnorm"):
        methods.make("crossentropy", {})


def test_unknown_hyperparameter_lists_the_known() -> None:
    with pytest.raises(TrainingError, match=r"'logitnorm' has no hyperparameter 'temperature'; it has \['tau'\]"):
        methods.make("logitnorm", {"temperature": 1.0})


def test_hyperparameter_of_a_method_that_has_none() -> None:
    with pytest.raises(TrainingError, match=r"'cross-entropy' has no hyperparameter 'tau'; it has \[\]"):
        methods.make("cross-entropy", {"tau": 1.0})
