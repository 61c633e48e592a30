"""Binary cross-entropy, a sigmoid a label."""

from __future__ import annotations

import itertools
import math

import pytest

from tests.train.methods.examples import HOT, LOGITS, Fixed, batch_for
from train import methods


@pytest.mark.parametrize("name", ["bce", "snojoe"])
def test_binary_cross_entropy(name: str) -> None:
    step = methods.make(name, {}).step(Fixed(), batch_for(name))
    each = [
        math.log1p(math.exp(-f if hot else f)) for f, hot in zip(itertools.chain(*LOGITS), HOT.flatten(), strict=True)
    ]
    assert step.loss.item() == pytest.approx(sum(each) / 6, rel=1e-6)
    assert step.logits.tolist() == LOGITS
