"""The energy loss against numbers worked out by hand and in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from tests.train.methods.examples import BATCH, LOGITS, Fixed, mean_loss
from train import methods
from train.methods.energy import energy, energy_loss


def test_energy_is_minus_logsumexp() -> None:
    logits = np.random.default_rng(0).normal(size=(50, 7)) * 20
    np.testing.assert_allclose(energy(torch.from_numpy(logits)), -logsumexp(logits, axis=1), rtol=1e-12)


def test_energy_of_huge_logits_is_finite() -> None:
    assert energy(torch.tensor([[1e4, -1e4]])).item() == -1e4


@pytest.mark.parametrize(
    ("known", "outliers", "expected"),
    [
        ([-25.0, -30.0], [-5.0, 0.0], 0.0),  # all beyond their margins
        ([-23.0], [-5.0], 0.0),  # on the margins
        ([-22.0], [-5.0], 1.0),
        ([-23.0], [-8.0], 9.0),
        ([-20.0, -30.0], [-7.0, 0.0], 9 / 2 + 4 / 2),
        ([-20.0], [-7.0, 0.0, 0.0, 0.0], 9 + 4 / 4),  # each side is averaged over its own images
    ],
)
def test_hinges(known: list[float], outliers: list[float], expected: float) -> None:
    assert energy_loss(torch.tensor(known), torch.tensor(outliers), -23, -5).item() == pytest.approx(expected)


def test_gradient_is_that_of_the_squared_hinges() -> None:
    known = torch.tensor([-20.0, -30.0], requires_grad=True)
    outliers = torch.tensor([-7.0, 0.0], requires_grad=True)
    energy_loss(known, outliers, -23, -5).backward()
    assert known.grad is not None
    assert outliers.grad is not None
    assert known.grad.tolist() == [2 * 3 / 2, 0]
    assert outliers.grad.tolist() == [-2 * 2 / 2, 0]


def test_energy_of_uniform_logits() -> None:
    assert energy(torch.zeros(1, 10)).item() == pytest.approx(-math.log(10))


def test_energy() -> None:
    """Images and outliers get the same logits here, so both hinges see the same energies."""
    step = methods.make("energy", {"weight": 2.0, "m_in": -3.0, "m_aux": -1.0}).step(Fixed(), BATCH)
    energies = [-float(logsumexp(row)) for row in LOGITS]
    both = [max(0, e + 3) ** 2 + max(0, -1 - e) ** 2 for e in energies]
    assert step.loss.item() == pytest.approx(mean_loss(lambda _: 1) + 2 * sum(both) / 2, rel=1e-6)
    assert step.logits.tolist() == LOGITS
