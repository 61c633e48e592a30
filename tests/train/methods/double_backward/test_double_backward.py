"""The fast double backward against torch's own, in float64."""

from __future__ import annotations

import copy
import random as python_random
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.train.methods.double_backward.gradients import check, penalty_gradients, random, randomise
from train import models
from train.methods.double_backward import FastDoubleBackward, _Exact, twice_differentiable

CONVOLUTIONS: dict[str, Callable[[], nn.Module]] = {
    "3x3": lambda: nn.Conv2d(4, 6, 3, padding=1, bias=False),
    "bias": lambda: nn.Conv2d(4, 6, 3, padding=1),
    "1x1": lambda: nn.Conv2d(4, 6, 1),
    "stride": lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1),
    "strides": lambda: nn.Conv2d(4, 6, (3, 2), stride=(2, 3), padding=(0, 1)),
    "1x1 stride": lambda: nn.Conv2d(4, 6, 1, stride=2, bias=False),
    "no padding": lambda: nn.Conv2d(4, 6, 3),
    "dilation": lambda: nn.Conv2d(4, 6, 3, padding=2, dilation=2),
    "groups": lambda: nn.Conv2d(4, 6, 3, padding=1, groups=2),
    "depthwise": lambda: nn.Conv2d(4, 4, 3, padding=1, groups=4),
    "padding same": lambda: nn.Conv2d(4, 6, 3, padding="same"),
    "padding reflect": lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"),
}
NORMALISATIONS: dict[str, Callable[[], nn.Module]] = {
    "affine": lambda: nn.BatchNorm2d(4),
    "plain": lambda: nn.BatchNorm2d(4, affine=False),
    "no statistics": lambda: nn.BatchNorm2d(4, track_running_stats=False),
    "cumulative": lambda: nn.BatchNorm2d(4, momentum=None),
    "large epsilon": lambda: nn.BatchNorm2d(4, eps=0.5),
}
NETWORKS = {"resnet20": 8, "resnet18": 4, "wrn-40-2": 4}  # and the side of their images


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_convolution(kind: str) -> None:
    torch.manual_seed(0)
    check(nn.Sequential(CONVOLUTIONS[kind](), nn.Softplus()).double(), random(3, 4, 7, 8))


@pytest.mark.parametrize("kind", NORMALISATIONS)
def test_batch_normalisation(kind: str) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(4, 4, 1), randomise(NORMALISATIONS[kind]()), nn.Softplus()).double()
    check(module, random(5, 4, 3, 4) * 3 + 2)


def test_batch_normalisation_of_vectors() -> None:
    torch.manual_seed(0)
    check(nn.Sequential(randomise(nn.BatchNorm1d(4)), nn.Linear(4, 3), nn.Softplus()).double(), random(6, 4) + 1)


def test_batch_normalisation_updates_its_statistics() -> None:
    mine, reference = (nn.BatchNorm2d(4).double() for _ in range(2))
    for seed in range(3):
        images = random(5, 4, 3, 4) * seed + seed
        with FastDoubleBackward():
            mine(images)
        reference(images)
    for name, value in reference.state_dict().items():
        torch.testing.assert_close(mine.state_dict()[name], value, rtol=1e-12, atol=0)


@pytest.mark.parametrize("arch", NETWORKS)
def test_networks(arch: str) -> None:
    torch.manual_seed(0)
    model = randomise(models.make(arch, 5)).double()
    images = random(4, 3, NETWORKS[arch], NETWORKS[arch])
    check(model, images.contiguous(memory_format=torch.channels_last))


def check_bf16(model: nn.Module, images: torch.Tensor) -> None:
    """The penalty's gradient in bf16 points where that in float64 does, on a GPU too; the network is left in float64."""
    if torch.cuda.is_available():
        _check_bf16(copy.deepcopy(model).cuda(), images.cuda())
    _check_bf16(model, images)


def _check_bf16(model: nn.Module, images: torch.Tensor) -> None:
    parameters = list(model.parameters())
    with torch.autocast(images.device.type, torch.bfloat16):
        _, mine = penalty_gradients(partial(twice_differentiable, model), parameters, images, fast=False)
    model.double()
    _, reference = penalty_gradients(model, parameters, images.double(), fast=False)
    a, b = (torch.cat([gradient.double().flatten() for gradient in found[:-1]]) for found in (mine, reference))
    assert F.cosine_similarity(a, b, dim=0) >= 0.999


@pytest.mark.parametrize("arch", ["resnet20", "wrn-40-2"])
def test_a_penalty_in_bf16_points_where_that_in_float64_does(arch: str) -> None:
    torch.manual_seed(0)
    model = randomise(models.make(arch, 5)).train()
    images = random(16, 3, 16, 16, dtype=torch.float32)
    check_bf16(model, images)


def test_under_autocast_the_batch_statistics_kept_are_those_of_single_precision() -> None:
    torch.manual_seed(0)
    mine = models.make("wrn-40-2", 5)
    single = copy.deepcopy(mine)
    for seed in (1, 2):
        images = random(8, 3, 8, 8, dtype=torch.float32)
        torch.manual_seed(seed)
        with torch.no_grad():
            expected, _ = single(images)
        torch.manual_seed(seed)  # the same dropout
        with torch.autocast("cpu", torch.bfloat16):
            logits, _ = twice_differentiable(mine, images)
    torch.testing.assert_close(logits.float(), expected, rtol=0.02, atol=0.02)
    for name, value in single.named_buffers():
        torch.testing.assert_close(mine.get_buffer(name), value, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_dropout_in_bf16(share: float) -> None:
    """What is dropped gets no gradient; the rest one as large as it is scaled."""
    model = nn.Sequential(nn.Dropout(share))
    images = torch.ones(64, 3, 4, 4, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        found = twice_differentiable(model, images)
    (gradient,) = torch.autograd.grad(found.sum(), images, create_graph=True)
    torch.testing.assert_close(gradient, found.float(), rtol=0.01, atol=0)
    assert (found == 0).float().mean().item() == pytest.approx(share, abs=0.03)
    assert found.max().item() == pytest.approx(1 / (1 - share) if share < 1 else 0, rel=0.01)
    assert torch.equal(model.eval()(images), images)


class Noting(nn.Module):
    """Draws as stochastic depth does, and notes what."""

    def __init__(self, draw: Callable[[int], torch.Tensor]) -> None:
        super().__init__()
        self.draw, self.drawn = draw, list[torch.Tensor]()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.drawn.append(self.draw(len(x))[:, None, None, None])
        return x * self.drawn[-1]


DRAWS: dict[str, Callable[[int], torch.Tensor]] = {
    "torch": lambda count: torch.bernoulli(torch.full((count,), 0.5)),
    "python": lambda count: torch.tensor([float(python_random.random() < 0.5) for _ in range(count)]),
    "numpy": lambda count: torch.from_numpy(np.random.rand(count) < 0.5).float(),
}


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("share", [0.0, 0.1])
def test_both_precisions_draw_the_same(share: float, draw: str) -> None:
    """Behind a dropout too, whose mask is kept; by whatever generator."""
    noting, dropped = Noting(DRAWS[draw]), nn.Dropout(share)
    model = nn.Sequential(dropped, nn.Conv2d(3, 4, 3), noting, nn.Dropout(0.5), nn.Conv2d(4, 4, 3), noting)
    masks: list[torch.Tensor] = []
    dropped.register_forward_hook(lambda _, __, output: masks.append(output == 0))
    with torch.autocast("cpu", torch.bfloat16):
        twice_differentiable(model, random(64, 3, 8, 8, dtype=torch.float32).requires_grad_())
    for first, second in zip(noting.drawn[:2], noting.drawn[2:], strict=True):
        assert torch.equal(first, second)
    assert not torch.equal(*noting.drawn[:2])
    assert torch.equal(*masks)


ATTENTION = nn.MultiheadAttention(8, 2, dropout=0.1)
DRAWING: dict[str, Callable[[torch.Tensor], object]] = {
    "bernoulli": torch.bernoulli,
    "bernoulli_": lambda x: x.clone().bernoulli_(0.5),
    "exponential_": lambda x: x.clone().exponential_(),
    "randperm": lambda x: torch.randperm(len(x)),
    "dropout2d": lambda x: F.dropout2d(x, 0.1),
    "dropout": lambda x: torch.dropout(x, 0.1, True),
    "scaled_dot_product_attention": lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.1),
    "multi_head_attention_forward": lambda x: ATTENTION(x[0], x[0], x[0]),
}


@pytest.mark.parametrize("name", DRAWING)
def test_what_would_draw_again_is_refused_where_it_can_not_draw_the_same(name: str) -> None:
    images = torch.rand(2, 3, 4, 8)
    with pytest.raises(RuntimeError, match=f"^{name} would draw again"), _Exact(torch.bfloat16, drawing=False):
        DRAWING[name](images)
    with _Exact(torch.bfloat16, drawing=True):
        DRAWING[name](images)


def test_what_draws_nothing_is_not_refused() -> None:
    images = torch.rand(2, 3, 4, 8)
    attention = nn.MultiheadAttention(8, 2, dropout=0.1).eval()
    with _Exact(torch.bfloat16, drawing=False):
        F.scaled_dot_product_attention(images, images, images)
        attention(images[0], images[0], images[0])
        F.dropout(images, 0.1)


class Looking(nn.Module):
    """A scale and an index that are no weights are in its graph, as Swin's index of relative positions is."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Linear(6, 5)
        self.table = nn.Parameter(torch.randn(4))
        self.register_buffer("gain", torch.tensor(0.5))
        self.register_buffer("places", torch.tensor([0, 3, 3, 1, 2, 0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.first(x)) * self.gain + self.table[self.places][:, None, None]
        logits: torch.Tensor = self.last(F.softplus(x).mean((2, 3)))
        return logits


def test_what_is_no_weight_may_be_in_the_graph_in_bf16() -> None:
    torch.manual_seed(0)
    model = Looking()
    before = {name: value.clone() for name, value in model.named_buffers()}
    check_bf16(model, random(16, 3, 8, 8, dtype=torch.float32))
    changed = {name for name, value in model.named_buffers() if not torch.equal(value, before[name])}
    assert changed == {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}
    assert model.norm.num_batches_tracked == 2  # one step, and the reference


def test_an_ordinary_backward_pass_is_torch_s() -> None:
    torch.manual_seed(0)
    model = randomise(models.make("resnet20", 5)).double()
    images = random(6, 3, 8, 8)
    found = []
    for fast in (False, True):
        leaf = images.clone().requires_grad_()
        with FastDoubleBackward() if fast else nullcontext():
            loss = F.cross_entropy(model(leaf)[0], torch.arange(6) % 5)
        found.append(torch.autograd.grad(loss, [*model.parameters(), leaf]))
    for mine, reference in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-10, atol=1e-12)


def test_images_that_need_no_gradient() -> None:
    """The first convolution's input gradient is not asked for, its weight's is."""
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 6, 3)
    with FastDoubleBackward():
        layer(torch.ones(2, 4, 5, 5)).sum().backward()
    assert layer.weight.grad is not None
    assert layer.bias is not None
    assert layer.weight.grad.unique().tolist() == [18]
    assert layer.bias.grad is not None
    assert layer.bias.grad.unique().tolist() == [18]


@pytest.mark.parametrize("layer", [nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)], ids=["convolution", "normalisation"])
def test_it_is_used_in_its_context_only(layer: nn.Module) -> None:
    images = random(2, 4, 5, 5, dtype=torch.float32)
    with FastDoubleBackward():
        inside = layer(images).grad_fn
    outside = layer(images).grad_fn
    assert type(inside).__name__.startswith("_")
    assert type(outside).__name__ in ("ConvolutionBackward0", "NativeBatchNormBackward0")


def test_without_gradients_torch_s_own_is_used() -> None:
    convolution, normalisation = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)
    images = random(2, 4, 5, 5, dtype=torch.float32)
    with torch.no_grad():
        expected = normalisation(convolution(images))
    normalisation.reset_running_stats()
    with FastDoubleBackward(), torch.no_grad():
        assert torch.equal(normalisation(convolution(images)), expected)


@pytest.mark.parametrize("affine", [True, False])
def test_frozen_batch_normalisation(affine: bool) -> None:
    """In evaluation mode, among layers that go on to learn; as where the first stages of a network are frozen."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, affine=affine), nn.Softplus(), nn.Conv2d(6, 3, 1)
    ).double()
    randomise(module)(random(8, 4, 7, 8) + 1)  # statistics that are not zero and one
    module[1].eval()
    before = {name: value.clone() for name, value in module.named_buffers()}
    check(module, random(3, 4, 7, 8))
    assert all(torch.equal(value, before[name]) for name, value in module.named_buffers())
    with FastDoubleBackward():
        assert type(module[:2](random(3, 4, 7, 8)).grad_fn).__name__ == "_FrozenBatchNormBackward"


def test_frozen_weights_get_no_gradient_and_change_no_other() -> None:
    torch.manual_seed(0)
    module = randomise(models.make("resnet20", 5)).double()
    images = random(4, 3, 8, 8)
    _, expected = penalty_gradients(module, list(module.parameters()), images, fast=False)
    frozen = [name for name, _ in module.named_parameters() if not name.startswith(("blocks.8", "fc"))]
    for name in frozen:
        module.get_parameter(name).requires_grad_(False)
    kept = [(p, e) for p, e in zip(module.parameters(), expected, strict=False) if p.requires_grad]
    _, found = penalty_gradients(module, [p for p, _ in kept], images, fast=True)
    for mine, (_, reference) in zip(found, kept, strict=False):
        assert (mine - reference).norm() <= 1e-10 * (1 + reference.norm())


def test_frozen_batch_normalisation_in_bf16() -> None:
    torch.manual_seed(0)
    model = randomise(models.make("resnet20", 5)).train()
    images = random(16, 3, 16, 16, dtype=torch.float32)
    model(images)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    check_bf16(model, images)


@pytest.mark.parametrize("layer", [nn.ReLU, nn.ReLU6, nn.Hardtanh])
@pytest.mark.parametrize("inplace", [True, False])
def test_rectifiers(layer: Callable[..., nn.Module], inplace: bool) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), layer(inplace=inplace), nn.Conv2d(6, 3, 1), nn.Softplus()
    )
    images = random(3, 4, 7, 8) * 5  # beyond 6 too
    check(module.double(), images)
    rectified = images.clone().requires_grad_()
    with FastDoubleBackward():
        output = layer(inplace=inplace)(rectified * 1)
    assert type(output.grad_fn).__name__ == "_RectifierBackward"
    torch.testing.assert_close(output, layer()(images), rtol=0, atol=0)


def test_a_rectifier_in_place_changes_its_input() -> None:
    images = random(3, 4)
    expected = images.relu()
    for known in ((), [(expected,)]):
        given = images.clone().requires_grad_() * 1
        with FastDoubleBackward(known):
            F.relu(given, inplace=True)
        assert torch.equal(given, expected)
