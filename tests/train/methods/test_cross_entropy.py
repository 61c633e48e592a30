"""Softmax cross-entropy against its definition."""

from __future__ import annotations

import pytest

from tests.train.methods.examples import BATCH, LOGITS, Fixed, mean_loss
from train import methods


def test_cross_entropy() -> None:
    step = methods.make("cross-entropy", {}).step(Fixed(), BATCH)
    assert step.loss.item() == pytest.approx(mean_loss(lambda _: 1), rel=1e-6)
    assert step.logits.tolist() == LOGITS
