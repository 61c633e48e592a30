"""Training on several processes at once, started by ``torchrun``: who we are, and what is summed over all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from train.global_batch_norm import use_global_batch_norm


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

    def share(self, model: nn.Module) -> nn.Module:
        """The module to train: its gradients and batch statistics are those of all processes' batches together."""
        if self.size == 1:
            return model
        use_global_batch_norm(model)
        # A group of its own: the gradients' reductions must not mix with those of batch normalisation.
        return DistributedDataParallel(model, process_group=distributed.new_group())


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
