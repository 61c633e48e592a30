"""What a method has to say of a network is told before the first step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.train.sets import SPEC, colours
from train import models
from train.config import Config, Precision
from train.exceptions import TrainingError
from train.loop import train
from train.methods.greg import GReg


class Normed(nn.Module):
    """One layer and a group normalisation."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4)
        self.fc = nn.Linear(4, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.norm(self.conv(x)).relu().mean(dim=(2, 3))
        return self.fc(features), features


def run(tmp_path: Path, precision: Precision = "fp32", **options: Any) -> None:
    config = Config(method="greg", arch="normed", epochs=1, batch_size=8, precision=precision, method_options=options)
    train(config, SPEC, colours(16), colours(16), tmp_path, outliers=colours(16))


def test_slow_layers_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(models.ARCHITECTURES, "normed", Normed)
    line = "1 x group_norm, differentiated twice by torch's own formulas, exact and slow: norm\n"
    run(tmp_path)
    assert line in capsys.readouterr().out
    run(tmp_path, gradient_weight=0.0)  # watched only: nothing is differentiated twice
    assert line not in capsys.readouterr().out


def test_a_network_that_the_method_can_not_train_is_refused_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise TrainingError("no second derivative")

    monkeypatch.setattr(GReg, "examine", refuse)
    monkeypatch.setitem(models.ARCHITECTURES, "normed", Normed)
    with pytest.raises(TrainingError, match="no second derivative"):
        run(tmp_path)
    assert not (tmp_path / "checkpoint.safetensors").exists()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_network_is_tried_in_the_precision_of_its_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: Precision
) -> None:
    seen: list[bool] = []

    class Watched(Normed):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            if self.training:
                seen.append(torch.is_autocast_enabled("cpu"))
            return super().forward(x)

    monkeypatch.setitem(models.ARCHITECTURES, "normed", Watched)
    run(tmp_path, precision)
    tried, *steps = np.array(seen).reshape(3, -1).tolist()  # two steps
    assert tried == steps[0] == steps[1]
    assert tried == ([False] if precision == "fp32" else [False, True])  # in half after a pass in single
