"""Frozen weights stay bit by bit, and each stage learns at its own rate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.train.loop.test_loop import OUTLIERS, REGULARISED, SMALL, equal, interrupt, saved
from tests.train.sets import SPEC, coloured, colours
from train import models
from train.config import Config
from train.distributed import World
from train.exceptions import TrainingError
from train.loop import train
from train.loop.groups import Groups, factors
from train.loop.trainer import Trainer


def trainer(config: Config) -> Trainer:
    outliers = OUTLIERS if config.method.startswith("greg") else None
    return Trainer(config, SPEC, colours(35), outliers, None, World.alone())


def steps(made: Trainer, count: int = 3) -> None:
    for step, fed in enumerate(made.feed.steps(0, count)):
        made.step(step, fed)


@pytest.mark.parametrize("method", ["cross-entropy", "greg", "greg+"])
def test_frozen_weights_and_statistics_stay_as_they_are(method: str) -> None:
    options = REGULARISED if method != "cross-entropy" else {}
    made = trainer(replace(SMALL, method=method, method_options=options, freeze="4", warmup=0.0))
    before = {name: value.clone() for name, value in made.model.state_dict().items()}
    steps(made)
    changed = {name for name, value in made.model.state_dict().items() if not torch.equal(value, before[name])}
    frozen = ("conv1.", "bn1.", "blocks.0.", "blocks.1.", "blocks.2.")
    assert {name for name in before if not name.startswith(frozen)} == changed
    assert made.told == (
        "frozen: 4 of 10 stages, conv1 to blocks.2; "
        f"{sum(v.numel() for n, v in made.model.named_parameters() if not n.startswith(frozen)):,} of "
        f"{sum(v.numel() for v in made.model.parameters()):,} parameters train",
    )


def test_all_but_the_head() -> None:
    made = trainer(replace(SMALL, freeze="all-but-head", warmup=0.0))
    before = {name: value.clone() for name, value in made.model.state_dict().items()}
    steps(made)
    after = made.model.state_dict()
    assert {name for name in before if not torch.equal(after[name], before[name])} == {"fc.weight", "fc.bias"}


def test_more_stages_than_there_are() -> None:
    with pytest.raises(TrainingError, match=r"--freeze 11: resnet20 has 10 stages: conv1, blocks\.0, .*, blocks\.8"):
        trainer(replace(SMALL, freeze="11"))


def test_rates_by_hand() -> None:
    assert factors(4, 0.5, 0.8) == pytest.approx((0.05, 0.1, 0.2, 0.4))
    assert factors(3, 1.0, 0.1) == pytest.approx((0.1, 0.1, 0.1))


def test_each_weight_moves_by_its_stages_rate() -> None:
    """The first step of plain descent is rate times gradient."""
    config = replace(SMALL, warmup=0.0, momentum=0.5, weight_decay=0.0, layer_decay=0.5, backbone_rate=0.5, freeze="2")
    made = trainer(config)
    before = {name: value.clone() for name, value in made.model.state_dict().items()}
    steps(made, 1)
    for name, expected in (("blocks.1.conv1.weight", 0.5**9), ("blocks.8.conv2.weight", 0.25), ("fc.weight", 1.0)):
        weight = made.model.get_parameter(name)
        assert weight.grad is not None
        moved = (before[name] - weight.detach()) / (weight.grad * config.learning_rate * 1.5)  # Nesterov's 1 + momentum
        assert moved[weight.grad.abs() > 1e-4].median().item() == pytest.approx(expected, rel=0.02)
    assert made.told[1].startswith("learning rates: 0.00195 (first stage) to 0.25 (last)")


class Normalised(nn.Module):
    """Its head has a batch normalisation within."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = nn.Conv2d(3, 4, 3)
        self.fc = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        penultimate = self.stage(x).mean(dim=(2, 3))
        return self.fc(penultimate), penultimate


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_head_with_statistics_learns_at_the_full_rate(wrapped: bool) -> None:
    model = Normalised()
    if wrapped:  # by another name too
        model.classifier = nn.Module()
        model.classifier.fc = model.fc
    groups = Groups.of(replace(SMALL, backbone_rate=0.1), model, 8, 8)
    assert [stage.name for stage in groups.stages] == ["stage"]
    factors = {id(weight): each["factor"] for each in groups.parameters(model) for weight in each["params"]}
    assert {name: factors[id(weight)] for name, weight in model.named_parameters()} == {
        name: 0.1 if name.startswith("stage") else 1.0 for name, _ in model.named_parameters()
    }


def test_without_settings_nothing_is_looked_for() -> None:
    groups = Groups.of(SMALL, models.make("resnet20", 3), 8, 8)
    assert groups == Groups()
    (group,) = groups.parameters(models.make("resnet20", 3))
    assert group["factor"] == 1.0


@pytest.mark.parametrize(
    "changes",
    [
        {"ema": 0.9},
        {"mixup": 0.4, "label_smoothing": 0.1},
        {"augment": "photographs+pixmix", "padding": 4},
        {"augment": "trivial", "freeze": "5", "layer_decay": 0.7},
        {"ema": 0.9, "method": "snojoe", "method_options": {"layers": 3}, "mixup": 0.2},
    ],
    ids=str,
)
def test_resumed_it_ends_as_if_it_had_not_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object]
) -> None:
    data = coloured(20) if changes.get("method") == "snojoe" else colours(20)
    config = replace(SMALL, epochs=2, **changes)  # type: ignore[arg-type]
    train(config, SPEC, data, data, tmp_path / "whole")
    with monkeypatch.context() as patched:
        interrupt(patched, 2, name=config.method)
        train(config, SPEC, data, data, tmp_path / "half")
    assert saved(tmp_path / "half").header.step == 2
    resumed = train(config, SPEC, data, data, tmp_path / "half", resume=saved(tmp_path / "half"))
    assert resumed.step == 4
    first, second = saved(tmp_path / "whole"), saved(tmp_path / "half")
    assert equal(first.weights, second.weights)
    assert equal(first.learning, second.learning)
    assert equal(first.optimizer, second.optimizer)
    assert bool(first.learning) == bool(config.ema)
