"""Outlier exposure against the definition of cross-entropy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, logsumexp

from tests.train.methods.examples import BATCH, LOGITS, Fixed, mean_loss
from train import methods
from train.methods.outlier_exposure import uniform_cross_entropy


def test_is_the_cross_entropy_to_the_uniform_distribution() -> None:
    logits = np.random.default_rng(0).normal(size=(50, 7)) * 5
    expected = -log_softmax(logits, axis=1).mean(axis=1)
    np.testing.assert_allclose(uniform_cross_entropy(torch.from_numpy(logits)), expected, rtol=1e-12)


def test_is_least_for_uniform_logits() -> None:
    assert math.isclose(uniform_cross_entropy(torch.full((1, 10), 3.0)).item(), math.log(10), rel_tol=1e-6)
    assert (uniform_cross_entropy(torch.randn(100, 10)) > math.log(10)).all()


def test_huge_logits_are_finite() -> None:
    assert uniform_cross_entropy(torch.tensor([[1e4, -1e4]])).item() == 1e4


def test_outlier_exposure() -> None:
    step = methods.make("oe", {"weight": 0.25}).step(Fixed(), BATCH)
    uniform = sum(float(logsumexp(row)) - sum(row) / 3 for row in LOGITS) / 2
    assert step.loss.item() == pytest.approx(mean_loss(lambda _: 1) + 0.25 * uniform, rel=1e-6)
