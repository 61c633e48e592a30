"""Averaged weights, against a plain loop in float64."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from train.loop.averaging import Average, decay_at


def test_against_a_plain_loop() -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    average = Average(model, 0.9)
    expected = {name: value.double() for name, value in model.state_dict().items()}
    for step in range(120):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        model(torch.randn(4, 3, 2, 2))
        average.follow(model, step)
        decay = min(0.9, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * value.double()
    for name, value in average.model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            assert value == 120
        else:
            torch.testing.assert_close(value.double(), expected[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("step", "decay"), [(0, 0.1), (9, 10 / 19), (10_000, 0.99)])
def test_a_short_run_is_not_its_first_weights(step: int, decay: float) -> None:
    assert decay_at(step, 0.99) == pytest.approx(decay)


def test_the_network_itself_is_left_alone() -> None:
    model = nn.Linear(2, 2)
    average = Average(model, 0.5)
    assert all(weight.requires_grad for weight in model.parameters())
    assert not any(weight.requires_grad for weight in average.model.parameters())


def test_weights_in_two_places_are_averaged_once() -> None:
    layer = nn.Linear(1, 1, bias=False)
    average = Average(nn.Sequential(layer, layer), 0.9)
    (weight,) = average.model.parameters()
    with torch.no_grad():
        before = weight.item()
        layer.weight.copy_(torch.tensor([[before + 1]]))
    average.follow(nn.Sequential(layer, layer), 1000)
    assert weight.item() == pytest.approx(before + 0.1)
