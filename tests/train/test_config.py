"""The learning rate over a run, against numbers worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from train.config import Config, learning_rate

COSINE = Config(method="", arch="", epochs=200, learning_rate=0.1, warmup=0.0)
MULTISTEP = replace(COSINE, schedule="multistep")


@pytest.mark.parametrize(("epoch", "rate"), [(0, 0.1), (50, 0.1 * (2 + math.sqrt(2)) / 4), (100, 0.05), (200, 0)])
def test_cosine(epoch: float, rate: float) -> None:
    assert learning_rate(epoch, COSINE) == pytest.approx(rate, abs=1e-15)


@pytest.mark.parametrize(
    ("epoch", "rate"), [(0, 0.1), (79.99, 0.1), (80, 0.01), (139.99, 0.01), (140, 0.001), (199, 0.001)]
)
def test_multistep(epoch: float, rate: float) -> None:
    assert learning_rate(epoch, MULTISTEP) == pytest.approx(rate)


@pytest.mark.parametrize(("epoch", "share"), [(0, 0), (1, 0.25), (3, 0.75), (4, 1), (5, 1)])
@pytest.mark.parametrize("config", [COSINE, MULTISTEP], ids=["cosine", "multistep"])
def test_warmup_is_linear(config: Config, epoch: float, share: float) -> None:
    rate = learning_rate(epoch, replace(config, warmup=4.0))
    assert rate == pytest.approx(share * learning_rate(epoch, config))
