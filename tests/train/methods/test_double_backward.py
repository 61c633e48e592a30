"""The fast double backward against torch's own, in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train import models
from train.methods.double_backward import FastDoubleBackward, twice_differentiable

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


def randomise(module: nn.Module) -> nn.Module:
    """Scales and shifts that are not one and zero."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim == 1:
                parameter.copy_(torch.rand_like(parameter) + 0.5)
    return module


def penalty_gradients(
    module: Callable[[Tensor], Any], parameters: list[nn.Parameter], images: Tensor, fast: bool
) -> tuple[Tensor, list[Tensor]]:
    """The input gradient of a score, and the gradients of its norms plus the score: by the weights and by the images."""
    torch.manual_seed(0)  # dropout
    images = images.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    with FastDoubleBackward() if fast else nullcontext():
        outputs = module(images)
        logits = outputs[0] if isinstance(outputs, tuple) else outputs
    score = logits.flatten(1).double().logsumexp(dim=1) + logits.flatten(1).double().square().mean(dim=1)
    (gradient,) = torch.autograd.grad(score.sum(), images, create_graph=True)
    loss = torch.linalg.vector_norm(gradient.flatten(1), dim=1).square().sum() + score.sum()
    return gradient.detach(), list(torch.autograd.grad(loss, [*parameters, images], allow_unused=True))


def check(module: nn.Module, images: Tensor, tolerance: float = 1e-10) -> None:
    parameters = list(module.parameters())
    expected, expected_gradients = penalty_gradients(module, parameters, images, fast=False)
    found, gradients = penalty_gradients(module, parameters, images, fast=True)
    assert (found - expected).norm() <= tolerance * expected.norm()
    for mine, reference in zip(gradients, expected_gradients, strict=True):
        assert (mine - reference).norm() <= tolerance * (1 + reference.norm())


def random(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(1))


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


@pytest.mark.parametrize("arch", ["resnet20", "wrn-40-2"])
def test_a_penalty_in_bf16_points_where_that_in_float64_does(arch: str) -> None:
    torch.manual_seed(0)
    model = randomise(models.make(arch, 5)).train()
    images = random(16, 3, 16, 16, dtype=torch.float32)
    parameters = list(model.parameters())
    with torch.autocast("cpu", torch.bfloat16):
        _, mine = penalty_gradients(partial(twice_differentiable, model), parameters, images, fast=False)
    model.double()
    _, reference = penalty_gradients(model, parameters, images.double(), fast=False)
    a, b = (torch.cat([gradient.double().flatten() for gradient in found[:-1]]) for found in (mine, reference))
    assert F.cosine_similarity(a, b, dim=0) >= 0.999


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


def test_without_gradients_and_in_evaluation_mode_torch_s_own_is_used() -> None:
    convolution, normalisation = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)
    images = random(2, 4, 5, 5, dtype=torch.float32)
    with torch.no_grad():
        expected = normalisation(convolution(images))
    normalisation.reset_running_stats()
    with FastDoubleBackward(), torch.no_grad():
        assert torch.equal(normalisation(convolution(images)), expected)
    normalisation.eval()
    with FastDoubleBackward():
        result = normalisation(images)
    assert type(result.grad_fn).__name__ == "NativeBatchNormBackward0"
    torch.testing.assert_close(result, normalisation(images), rtol=0, atol=0)
