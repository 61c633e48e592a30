"""Training on several processes at once, started by ``torchrun``: who we are, and what is averaged over all."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from train.exceptions import TrainingError


@dataclass(frozen=True)
class World:
    """This process among all of them.

    Attributes:
        rank: from 0; process 0 writes what is written.
        size: how many processes, each with a batch of its own.
        device: where this one computes.
    """

    rank: int
    size: int
    device: torch.device

    @classmethod
    def alone(cls) -> World:
        """One process, on a GPU if there is one."""
        return cls(0, 1, torch.device("cuda" if torch.cuda.is_available() else "cpu"))

    def mean(self, values: list[float]) -> list[float]:
        """The mean of each value over all processes."""
        if self.size == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(total)
        mean: list[float] = (total / self.size).tolist()
        return mean

    def share(self, model: nn.Module, images: Tensor) -> nn.Module:
        """The module to train: its gradients and batch statistics are those of all processes' batches together.

        Args:
            model: returns (logits, penultimate).
            images: some, normalised, by which it is found whether all weights take part.
        """
        if self.size == 1:
            return model
        idle = has_idle_weights(model, images)
        use_global_batch_norm(model)
        # A group of its own: the gradients' reductions must not mix with those of batch normalisation.
        return DistributedDataParallel(model, process_group=distributed.new_group(), find_unused_parameters=idle)


@contextmanager
def join() -> Iterator[World]:
    """Join the processes that torchrun started, or be the only one."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World.alone()
        return
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    distributed.init_process_group("gloo" if device.type == "cpu" else "nccl")
    try:
        yield World(distributed.get_rank(), size, device)
    finally:
        distributed.destroy_process_group()


def process_count() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def has_idle_weights(model: nn.Module, images: Tensor) -> bool:
    """Whether there are weights to learn that the logits of a network don't depend on, such as those of an unused pooler."""
    copied = copy.deepcopy(model).train()
    weights = [weight for weight in copied.parameters() if weight.requires_grad]
    logits, _ = copied(images)
    return any(found is None for found in torch.autograd.grad(logits.sum(), weights, allow_unused=True))


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation on the concatenation of all processes' batches, which are of equal size.

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
        scale = (variance + self.eps).rsqrt()
        if not self.affine:
            return (centred * scale[:, None, None]).to(input.dtype)
        scale = scale * self.weight
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
    """Let every BatchNorm2d of a network see the batches of all processes; its weights stay where they are.

    Raises:
        TrainingError: a layer that is not frozen normalises by batches in a way of its own.
    """
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = GlobalBatchNorm2d
        elif isinstance(module, _BatchNorm) and module.training and not isinstance(module, GlobalBatchNorm2d):
            raise TrainingError(
                f"a {type(module).__name__} would normalise by the batch of its own process alone: train in one process, or "
                "freeze it"
            )


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
