"""The learning rate over a run, against numbers worked out by hand."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import pytest

from train.config import Config, learning_rate
from train.exceptions import TrainingError

COSINE = Config(method="", arch="", epochs=200, learning_rate=0.1, warmup=0.0)
MULTISTEP = replace(COSINE, schedule="multistep")
CYCLE = replace(COSINE, schedule="onecycle", warmup=50.0)


@pytest.mark.parametrize(("epoch", "rate"), [(0, 0.1), (50, 0.1 * (2 + math.sqrt(2)) / 4), (100, 0.05), (200, 0)])
def test_cosine(epoch: float, rate: float) -> None:
    assert learning_rate(epoch, COSINE) == pytest.approx(rate, abs=1e-15)


@pytest.mark.parametrize(
    ("epoch", "rate"), [(0, 0.1), (79.99, 0.1), (80, 0.01), (139.99, 0.01), (140, 0.001), (199, 0.001)]
)
def test_multistep(epoch: float, rate: float) -> None:
    assert learning_rate(epoch, MULTISTEP) == pytest.approx(rate)


@pytest.mark.parametrize(("epoch", "rate"), [(0, 0), (25, 0.05), (50, 0.1), (125, 0.05), (170, 0.02), (200, 0)])
def test_one_cycle(epoch: float, rate: float) -> None:
    assert learning_rate(epoch, CYCLE) == pytest.approx(rate, abs=1e-15)


def test_one_cycle_without_warmup_falls_from_the_beginning() -> None:
    assert learning_rate(50, replace(CYCLE, warmup=0.0)) == pytest.approx(0.075)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"momentum": 1.0}, "momentum must be in [0, 1), found 1.0"),
        ({"momentum": 0.0}, "Nesterov's momentum needs some; give --no-nesterov with --momentum 0"),
        ({"padding": -1}, "padding must not be negative, found -1"),
        ({"dropout": 1.0}, "dropout must be in [0, 1), found 1.0"),
        (
            {"augment": "photographs+trivial", "padding": 2, "flip": "alternating"},
            "--padding 2 and --flip alternating are of crop-flip, which --augment photographs+trivial takes the place of; "
            "give --padding 4 --flip random",
        ),
        (
            {"augment": "none", "padding": 0},
            "--padding 0 and --flip random are of crop-flip, which --augment none takes",
        ),
    ],
)
def test_unusable_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=re.escape(message)):
        replace(COSINE, **settings)


def test_mixing_goes_with_padding_and_flips() -> None:
    for name in ("crop-flip", "trivial", "crop-flip+pixmix"):
        assert replace(COSINE, augment=name, padding=2, flip="alternating").augment == name


def test_adam_and_plain_descent_need_no_nesterov() -> None:
    assert replace(COSINE, optimizer="adam", momentum=0.0).momentum == 0
    assert replace(COSINE, nesterov=False, momentum=0.0).momentum == 0


@pytest.mark.parametrize(("epoch", "share"), [(0, 0), (1, 0.25), (3, 0.75), (4, 1), (5, 1)])
@pytest.mark.parametrize("config", [COSINE, MULTISTEP], ids=["cosine", "multistep"])
def test_warmup_is_linear(config: Config, epoch: float, share: float) -> None:
    rate = learning_rate(epoch, replace(config, warmup=4.0))
    assert rate == pytest.approx(share * learning_rate(epoch, config))
