"""Networks of the layers that others have: second derivatives against torch's own and finite differences, in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.train.methods.double_backward.gradients import check, penalty_gradients, random, randomise
from train.methods.double_backward import FastDoubleBackward, twice_differentiable


class SamePadding(nn.Conv2d):
    """A module of its own that pads and calls the function, as those of EfficientNet-lite do."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (0, 1, 0, 1)), self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class Inverted(nn.Module):
    """An inverted residual, with squeeze and excitation or without."""

    def __init__(self, act: Callable[[], nn.Module], squeezed: bool = False) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(4, 8, 1, bias=False), nn.BatchNorm2d(8), act())
        self.depthwise = nn.Sequential(SamePadding(8, 8, 2, groups=8, bias=False), nn.BatchNorm2d(8), act())
        self.squeeze: nn.Module | None = None
        if squeezed:
            self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 2, 1), act(), nn.Conv2d(2, 8, 1))
        self.project = nn.Sequential(nn.Conv2d(8, 4, 1, bias=False), nn.BatchNorm2d(4))

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(self.expand(x))
        if self.squeeze:
            y = y * torch.sigmoid(self.squeeze(y))
        projected: Tensor = self.project(y)
        return projected + x


class Tokens(nn.Module):
    """A block of a vision transformer on the pixels, attention by the module or by the function."""

    def __init__(self, attention: str) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(4), nn.LayerNorm(4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True) if attention == "module" else nn.Linear(4, 12)
        self.mlp = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2).transpose(1, 2)
        y = self.norm1(x)
        if isinstance(self.attention, nn.MultiheadAttention):
            x = x + self.attention(y, y, y, need_weights=False)[0]
        else:
            x = x + F.scaled_dot_product_attention(*self.attention(y).unsqueeze(1).chunk(3, dim=-1)).squeeze(1)
        return x + self.mlp(self.norm2(x))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "relu6": partial(Inverted, nn.ReLU6),
    "relu6, in place": partial(Inverted, partial(nn.ReLU6, inplace=True)),
    "silu, squeezed": partial(Inverted, nn.SiLU, squeezed=True),
    "hardswish, squeezed": partial(Inverted, nn.Hardswish, squeezed=True),
    "gelu": partial(Inverted, nn.GELU),
    "group norm": lambda: nn.Sequential(nn.Conv2d(4, 4, 3), nn.GroupNorm(2, 4), nn.SiLU()),
    "layer norm": lambda: nn.Sequential(nn.Conv2d(4, 4, 2, 2), nn.LayerNorm([4, 2, 2]), nn.GELU()),
    "max pooling": lambda: nn.Sequential(nn.Conv2d(4, 4, 3), nn.MaxPool2d(2), nn.Softplus()),
    "attention module": partial(Tokens, "module"),
    "attention": partial(Tokens, "function"),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_second_derivatives_are_torch_s(kind: str) -> None:
    torch.manual_seed(0)
    model = randomise(NETWORKS[kind]()).double()
    with sdpa_kernel(SDPBackend.MATH):  # torch's own has no second derivative otherwise
        check(model, random(3, 4, 4, 5) * 3)


@pytest.mark.parametrize("kind", ["relu6", "silu, squeezed", "attention", "attention module"])
@pytest.mark.parametrize("evaluated", [False, True])
def test_second_derivatives_are_differences_of_first_ones(kind: str, evaluated: bool) -> None:
    """The penalty's gradient along a random direction of the weights, by central differences."""
    torch.manual_seed(0)
    model = randomise(NETWORKS[kind]()).double()
    model(random(8, 4, 4, 5))  # statistics
    model.train(not evaluated)
    images, parameters = random(3, 4, 4, 5), list(model.parameters())
    _, gradients = penalty_gradients(partial(twice_differentiable, model), parameters, images, fast=False)
    direction = [torch.randn_like(p) for p in parameters]
    slope = sum((g * d).sum().item() for g, d in zip(gradients, direction, strict=False) if g is not None)
    step = 1e-6
    ends = [_penalty(_moved(model, direction, sign * step), images) for sign in (1, -1)]
    assert slope == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-6)


def _moved(model: nn.Module, direction: list[Tensor], step: float) -> nn.Module:
    moved = copy.deepcopy(model)
    with torch.no_grad():
        for parameter, along in zip(moved.parameters(), direction, strict=True):
            parameter += step * along
    return moved


def _penalty(model: nn.Module, images: Tensor) -> float:
    """What the gradients of `penalty_gradients` are of, without a second derivative."""
    images = images.clone().requires_grad_()
    logits = model(images).flatten(1)
    score = logits.logsumexp(dim=1) + logits.square().mean(dim=1)
    (gradient,) = torch.autograd.grad(score.sum(), images)
    return float((gradient.flatten(1).square().sum() + score.sum()).item())


FUNCTIONS: dict[str, tuple[Callable[..., Tensor], list[tuple[int, ...]]]] = {
    "depthwise": (partial(F.conv2d, padding=1, groups=2), [(2, 2, 3, 3), (2, 1, 3, 3), (2,)]),
    "stride": (partial(F.conv2d, stride=2), [(2, 2, 5, 5), (3, 2, 2, 2), (3,)]),
    "batch norm": (lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True), [(4, 3, 2, 2), (3,), (3,)]),
    "frozen batch norm": (
        lambda x, w, b: F.batch_norm(x, torch.arange(3.0).double(), torch.arange(1.0, 4).double(), w, b),
        [(4, 3, 2, 2), (3,), (3,)],
    ),
    "relu6": (lambda x, w, b: F.relu6(5 * x * w + b), [(2, 3), (3,), (3,)]),
}


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_gradients_against_finite_differences(kind: str) -> None:
    """Of the operation by all of its inputs; of its input gradient by the image, the weight and what flows back."""
    function, shapes = FUNCTIONS[kind]
    torch.manual_seed(1)
    inputs = [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in shapes]

    def fast(*given: Tensor) -> Tensor:
        with FastDoubleBackward():
            return function(*given)

    def input_gradient(x: Tensor, w: Tensor, b: Tensor, along: Tensor) -> Any:
        x = x * 1  # no leaf
        return torch.autograd.grad((fast(x, w, b) * along).sum(), x, create_graph=True)[0]

    along = torch.randn_like(fast(*inputs)).requires_grad_()
    assert torch.autograd.gradcheck(fast, inputs)
    assert torch.autograd.gradcheck(input_gradient, (*inputs, along))


def test_attention_in_training_has_no_second_derivative_in_torch_s_fused_kernels() -> None:
    """Why attention is unfused; where torch learns to, this test says so."""
    query = random(1, 1, 4, 4).requires_grad_()
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        (gradient,) = torch.autograd.grad(
            F.scaled_dot_product_attention(query, query, query).square().sum(), query, create_graph=True
        )
    with pytest.raises(RuntimeError, match="not implemented"):
        gradient.square().sum().backward()  # type: ignore[no-untyped-call]
