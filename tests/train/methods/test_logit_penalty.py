"""The logit penalty against its definition in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from tests.train.methods.examples import BATCH, LOGITS, Fixed, mean_loss
from train import methods
from train.methods.logit_penalty import logit_penalty


@pytest.mark.parametrize("weight", [0.0, 0.05, 1.0])
def test_is_cross_entropy_plus_the_mean_norm(weight: float) -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(20, 5)), rng.integers(0, 5, 20)
    entropy = -log_softmax(logits, axis=1)[np.arange(20), labels].mean()
    expected = entropy + weight * np.sqrt((logits**2).sum(axis=1)).mean()
    found = logit_penalty(torch.from_numpy(logits), torch.from_numpy(labels), weight).item()
    assert found == pytest.approx(expected, rel=1e-12)


def test_logit_penalty() -> None:
    step = methods.make("logit-penalty", {"weight": 0.5}).step(Fixed(), BATCH)
    norm = sum(math.hypot(*row) for row in LOGITS) / 2
    assert step.loss.item() == pytest.approx(mean_loss(lambda _: 1) + 0.5 * norm, rel=1e-6)
