"""Logit normalisation against its closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.train.methods.examples import BATCH, LOGITS, Fixed, mean_loss
from train import methods
from train.methods.logitnorm import logit_norm


def batch(count: int = 16, classes: int = 10, seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(0, 5, (count, classes))), torch.from_numpy(rng.integers(0, classes, count))


@pytest.mark.parametrize("tau", [0.01, 0.04, 1.0, 5.0])
def test_equals_the_definition(tau: float) -> None:
    logits, labels = batch()
    f = logits.numpy()
    unit = f / np.sqrt((f**2).sum(axis=1, keepdims=True))
    of_label = unit[np.arange(len(f)), labels.numpy()]
    # -log(exp(a_y) / sum exp(a_i)) as log sum exp(a_i - a_y), which does not overflow for these tau
    expected = np.log(np.exp((unit - of_label[:, None]) / tau).sum(axis=1)).mean()
    assert logit_norm(logits, labels, tau, epsilon=0.0).item() == pytest.approx(expected, rel=1e-12)


def test_float32_is_close_to_float64() -> None:
    logits, labels = batch()
    assert logit_norm(logits.float(), labels).item() == pytest.approx(logit_norm(logits, labels).item(), rel=1e-5)


@pytest.mark.parametrize("classes", [2, 10, 100])
@pytest.mark.parametrize("tau", [0.5, 1.0, 4.0])
def test_lower_bound_of_proposition_3_3(classes: int, tau: float) -> None:
    bound = math.log(1 + (classes - 1) * math.exp(-2 / tau))
    logits, labels = batch(1000, classes)
    losses = [logit_norm(logits[i : i + 1], labels[i : i + 1], tau).item() for i in range(len(logits))]
    assert min(losses) >= bound


def test_two_opposite_logits() -> None:
    """f = (c, -c) has unit logits (1, -1) / sqrt 2, which are sqrt 2 apart."""
    loss = logit_norm(torch.tensor([[3.0, -3.0]], dtype=torch.float64), torch.tensor([0]), tau=0.5, epsilon=0.0)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-math.sqrt(2) / 0.5)))


@pytest.mark.parametrize("scale", [1e-3, 7.0, 1e4])
def test_scale_does_not_matter(scale: float) -> None:
    logits, labels = batch()
    assert logit_norm(logits * scale, labels).item() == pytest.approx(logit_norm(logits, labels).item(), rel=1e-5)


def test_zero_logits_lose_log_k() -> None:
    logits = torch.zeros(4, 10, requires_grad=True)
    loss = logit_norm(logits, torch.arange(4))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(10))
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_huge_logits_stay_finite() -> None:
    logits = torch.tensor([[1e18, -1e18, 0.0]])
    assert logit_norm(logits, torch.tensor([1])).isfinite()


def test_gradient_equals_finite_differences() -> None:
    logits, labels = batch(3, 5)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda f: logit_norm(f, labels, tau=0.5), (logits,))


def test_gradient_is_orthogonal_to_the_logits() -> None:
    """The loss depends on the direction only."""
    logits, labels = batch()
    logits.requires_grad_()
    logit_norm(logits, labels, tau=1.0, epsilon=0.0).backward()
    assert logits.grad is not None
    assert (logits.grad * logits).sum(dim=1).abs().max().item() < 1e-12


@pytest.mark.parametrize(("options", "tau"), [({}, 0.04), ({"tau": 1}, 1), ({"tau": 0.5}, 0.5)])
def test_logitnorm(options: dict[str, float], tau: float) -> None:
    step = methods.make("logitnorm", options).step(Fixed(), BATCH)
    assert step.loss.item() == pytest.approx(mean_loss(lambda row: 1 / (tau * math.hypot(*row))), rel=1e-5)
    assert step.logits.tolist() == LOGITS
