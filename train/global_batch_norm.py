"""Batch normalisation over the batches of all processes, on any device, differentiable as often as wanted."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """As :class:`torch.nn.BatchNorm2d` on the concatenation of all processes' batches, which are of equal size.

    torch's SyncBatchNorm runs on GPUs only and can't be differentiated twice, as gradient regularisation does.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        axes = (0, 2, 3)
        x = input.float() if input.element_size() < 4 else input
        mean = _mean(x.mean(axes))
        centred = x - mean[:, None, None]
        variance = _mean(centred.square().mean(axes))
        self._track(mean.detach(), variance.detach(), distributed.get_world_size() * input.numel() // input.shape[1])
        scale = (variance + self.eps).rsqrt() * self.weight
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = self.momentum if self.momentum is not None else 1 / self.num_batches_tracked.item()
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * count / (count - 1), momentum)


def use_global_batch_norm(model: nn.Module) -> None:
    """Let every BatchNorm2d of a network see the batches of all processes; its weights stay where they are."""
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = GlobalBatchNorm2d


class _Sum(torch.autograd.Function):
    """The sum over all processes. What depends on it anywhere depends on every process's part: its gradient is a sum too."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:  # noqa: ARG004
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:  # noqa: ARG004
        return _Sum.apply(*gradients)  # type: ignore[no-untyped-call]


def _mean(values: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return total / distributed.get_world_size()
