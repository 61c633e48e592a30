"""MoCo-v2: contrast of two views of an image against a queue of others; needs no labels (Chen et al. 2020)."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from runtime.manifest import Task
from train.methods.base import Batch, Method, Step, at_least_float32, require

_STATE = "moco"


def info_nce(queries: Tensor, keys: Tensor, queue: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """InfoNCE (He et al. 2020, arXiv:1911.05722, eq. 1), of embeddings of length 1.

        L = -log( exp(q . k / T) / (exp(q . k / T) + sum_i exp(q . n_i / T)) )

    Args:
        queries: q, (B, E).
        keys: k, (B, E), of other views of the same images.
        queue: n, (Q, E), of other images.
        temperature: T.

    Returns:
        The mean loss, a scalar; and the logits (B, 1 + Q), of which the first is of the other view.
    """
    positive = (queries * keys).sum(dim=1, keepdim=True)
    logits = torch.cat([positive, queries @ queue.T], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(queries), dtype=torch.int64, device=logits.device)), logits


class Momentum(nn.Module):
    """The key encoder, whose weights follow the network's slowly, and the queue of keys.

    Args:
        network: returns (embedding, hidden).
        size: Q, how many keys the queue holds.
        width: E.
    """

    queue: Tensor
    place: Tensor

    def __init__(self, network: nn.Module, size: int, width: int) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.register_buffer("queue", F.normalize(torch.randn(size, width)))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def follow(self, network: nn.Module, momentum: float) -> None:
        """w <- m w + (1 - m) w' of the network's weights w' (eq. 2)."""
        theirs = dict(network.named_parameters())
        for name, own in self.network.named_parameters():
            own.lerp_(theirs[name], 1 - momentum)

    @torch.no_grad()
    def keys(self, views: Tensor, splits: int) -> Tensor:
        """(B, E), computed in parts of shuffled images, so that batch normalisation tells nothing of who is beside whom."""
        self.network.train()
        order = torch.randperm(len(views), device=views.device)
        parts = [self.network(part)[0] for part in views[order].chunk(splits)]
        return at_least_float32(torch.cat(parts)[order.argsort()])

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """The newest keys in the oldest ones' place; of all processes, in order."""
        keys = _of_all_processes(keys)[-len(self.queue) :]
        places = (int(self.place) + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue[places] = keys.to(self.queue.dtype)
        self.place.fill_((int(self.place) + len(keys)) % len(self.queue))


def _of_all_processes(keys: Tensor) -> Tensor:
    if not (distributed.is_available() and distributed.is_initialized()):
        return keys
    parts = [torch.empty_like(keys) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, keys.contiguous())
    return torch.cat(parts)


@dataclass(frozen=True)
class Moco(Method):
    """Momentum contrast: unlabelled images, a projection head, two views of each image.

    The defaults are those of the authors' notebook for CIFAR-10, which NAN's appendix C refers to. Two things are ours:
    views have a fifth of the image at least, where theirs have 8 %, as ImageNet's of MoCo-v2 have; and the queries of a batch
    are normalised together, the keys alone in parts.

    Attributes:
        temperature: T.
        momentum: m, of the key encoder.
        queue: Q, how many keys stand for other images.
        splits: parts of a batch that the key encoder normalises by themselves.
        rotations: 1 turns each image by a random multiple of 90 degrees first, as NAN does for one class (appendix C).
    """

    task: ClassVar[Task] = "unlabelled"
    recordable: ClassVar[bool] = False
    temperature: float = 0.1
    momentum: float = 0.99
    queue: int = 4096
    splits: int = 8
    rotations: int = 0

    def __post_init__(self) -> None:
        require(
            (self.temperature > 0, f"temperature must be positive, found {self.temperature:g}"),
            (0 <= self.momentum < 1, f"momentum must be in [0, 1), found {self.momentum:g}"),
            (
                self.queue >= 1 and self.splits >= 1,
                f"queue and splits must be at least 1, found {self.queue}, {self.splits}",
            ),
            (self.rotations in (0, 1), f"rotations must be 0 or 1, found {self.rotations}"),
        )

    def prepare(self, model: nn.Module, size: tuple[int, int]) -> None:  # noqa: ARG002  of any size
        embedding = cast(nn.Linear, model.embedding)
        setattr(model, _STATE, Momentum(model, int(self.queue), embedding.out_features))

    def release(self, model: nn.Module) -> None:
        delattr(model, _STATE)

    def step(self, model: nn.Module, batch: Batch) -> Step:
        network = cast(nn.Module, getattr(model, "module", model))  # behind DistributedDataParallel
        state = cast(Momentum, getattr(network, _STATE))
        queries = at_least_float32(model(batch.images)[0])
        state.follow(network, self.momentum)
        keys = state.keys(batch.views, int(self.splits))
        loss, logits = info_nce(queries, keys, state.queue.clone(), self.temperature)
        state.enqueue(keys)
        return Step({"info_nce": loss}, logits)
