"""MoCo: its loss against scipy, its momentum and queue step by step, and that batch normalisation tells nothing."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.special import log_softmax
from torch import nn
from torch.nn import functional as F

from train import methods, models
from train.exceptions import TrainingError
from train.methods import Batch
from train.methods.moco import Moco, Momentum, info_nce


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return models.make("resnet20+nan:16", 0)


def prepared(network: nn.Module, **options: Any) -> tuple[Moco, Momentum]:
    method = cast(Moco, methods.make("moco", {"queue": 12, "splits": 2, **options}))
    method.prepare(network, (8, 8))
    return method, cast(Momentum, network.moco)


def batch(count: int = 4) -> Batch:
    first, second = torch.randn(2, count, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return Batch(first, torch.zeros(count, dtype=torch.int64), first[:0], views=second)


def _unit(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_the_loss_is_the_logarithm_of_a_softmax() -> None:
    rng = np.random.default_rng(0)
    q, k, queue = (_unit(rng.normal(size=shape)) for shape in ((5, 7), (5, 7), (9, 7)))
    loss, logits = info_nce(*map(torch.from_numpy, (q, k, queue)), 0.2)
    expected = np.concatenate([(q * k).sum(axis=1, keepdims=True), q @ queue.T], axis=1) / 0.2
    np.testing.assert_allclose(logits.numpy(), expected, rtol=1e-12)
    assert loss.item() == pytest.approx(-log_softmax(expected, axis=1)[:, 0].mean(), rel=1e-12)


def test_the_key_encoder_follows_and_learns_nothing_itself(network: nn.Module) -> None:
    method, state = prepared(network, momentum=0.75)
    before = {name: value.clone() for name, value in state.network.named_parameters()}
    with torch.no_grad():
        for name, value in network.named_parameters():
            value.add_(0.0 if name.startswith("moco.") else 1.0)
    now = {name: value.clone() for name, value in network.named_parameters() if not name.startswith("moco.")}
    method.step(network, batch()).loss.backward()
    for name, value in state.network.named_parameters():
        torch.testing.assert_close(value, 0.75 * before[name] + 0.25 * now[name])
        assert value.grad is None
    assert all(value.grad is not None for name, value in network.named_parameters() if not name.startswith("moco."))


def test_the_queue_holds_the_newest_keys(network: nn.Module) -> None:
    """First in, first out, round and round; and a batch is not among its own negatives."""
    _, state = prepared(network)
    old = state.queue.clone()
    keys = F.normalize(torch.randn(3, 8, 128), dim=2)
    state.enqueue(keys[0])
    torch.testing.assert_close(state.queue, torch.cat([keys[0], old[8:]]))
    state.enqueue(keys[1])
    torch.testing.assert_close(state.queue, torch.cat([keys[1][4:], keys[0][4:], keys[1][:4]]))
    assert int(state.place) == 4
    method = Moco(queue=12)
    step = method.step(network, batch())
    assert step.logits.shape == (4, 13)


def test_keys_come_back_in_order_whatever_is_shuffled(network: nn.Module) -> None:
    _, state = prepared(network)
    images = batch(8).views
    torch.manual_seed(3)
    order = torch.randperm(8)
    with torch.no_grad():
        parts = torch.cat([state.network.train()(part)[0] for part in images[order].chunk(2)])
    torch.manual_seed(3)
    torch.testing.assert_close(state.keys(images, 2)[order], parts)
    assert state.keys(images, 2).requires_grad is False


def test_what_was_added_is_released(network: nn.Module) -> None:
    method, _ = prepared(network)
    names = {name for name, _ in network.named_parameters()}
    method.release(network)
    assert {name for name, _ in network.named_parameters()} == {name for name in names if not name.startswith("moco.")}


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"momentum": 1.0}, "momentum must be in"),
        ({"queue": 0}, "queue and splits must be at least 1"),
        ({"rotations": 4}, "rotations must be 0 or 1"),
    ],
)
def test_settings_that_can_not_be(options: dict[str, float], problem: str) -> None:
    with pytest.raises(TrainingError, match=problem):
        methods.make("moco", options)


def test_a_network_without_classes_has_a_projection_head() -> None:
    with pytest.raises(TrainingError, match=r"take --arch resnet20\+nan"):
        models.make("resnet20", 0)


def test_the_hidden_layer_s_width_is_in_the_name() -> None:
    model = models.make("resnet20+nan:24", 3)
    logits, hidden = model(torch.zeros(2, 3, 8, 8))
    assert (logits.shape, hidden.shape) == ((2, 3), (2, 24))
    embedding, hidden = models.make("resnet20+nan:24", 0).eval()(torch.randn(2, 3, 8, 8))
    assert (embedding.shape, hidden.shape) == ((2, 128), (2, 24))
    np.testing.assert_allclose(embedding.detach().norm(dim=1), 1, rtol=1e-5)
    for wrong in ("resnet20+nan:", "resnet20+nan:0", "resnet20+nan24"):
        with pytest.raises(TrainingError, match="unknown architecture"):
            models.make(wrong, 3)


def test_the_step_is_float32_in_half_precision(network: nn.Module) -> None:
    method, _ = prepared(network)
    with torch.autocast("cpu", torch.bfloat16):
        step = method.step(network, batch())
    assert step.loss.dtype == step.logits.dtype == torch.float32
    assert dataclasses.asdict(method)["queue"] == 12
