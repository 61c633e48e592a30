"""The gradient of a penalty on an input gradient, by the fast double backward and by torch's own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from train.methods.double_backward import FastDoubleBackward


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
    """Here, and where there is a GPU on it too, in both orders of memory, each of which has kernels of its own."""
    _check(module, images, tolerance)
    if torch.cuda.is_available():
        for order in (torch.contiguous_format, torch.channels_last) if images.ndim == 4 else (torch.contiguous_format,):
            _check(copy.deepcopy(module).cuda(), images.cuda().contiguous(memory_format=order), 100 * tolerance)


def _check(module: nn.Module, images: Tensor, tolerance: float) -> None:
    parameters = list(module.parameters())
    expected, expected_gradients = penalty_gradients(module, parameters, images, fast=False)
    found, gradients = penalty_gradients(module, parameters, images, fast=True)
    assert (found - expected).norm() <= tolerance * expected.norm()
    for mine, reference in zip(gradients, expected_gradients, strict=True):
        assert (mine - reference).norm() <= tolerance * (1 + reference.norm())


def random(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(1))
