"""Training methods: what the loss of a batch is. :data:`METHODS` lists them; nothing else knows their names."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn
from torch.nn import functional as F

from train.exceptions import TrainingError
from train.losses.logit_norm import logit_norm


@dataclass(frozen=True)
class Batch:
    """Augmented, normalised images (B, 3, H, W) and their labels (B,)."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Step:
    """What a method makes of a batch: the loss to descend, and the logits (B, K) for the accuracy shown."""

    loss: Tensor
    logits: Tensor


class Method(Protocol):
    """A frozen dataclass whose fields are the method's hyperparameters."""

    def step(self, model: nn.Module, batch: Batch) -> Step:
        """Forward pass and loss of one batch."""


@dataclass(frozen=True)
class CrossEntropy:
    """Softmax cross-entropy, the baseline."""

    def step(self, model: nn.Module, batch: Batch) -> Step:
        logits, _ = model(batch.images)
        logits = logits.float()
        return Step(F.cross_entropy(logits, batch.labels), logits)


@dataclass(frozen=True)
class LogitNorm:
    """Logit normalisation: cross-entropy of logits of norm 1 / tau."""

    tau: float = 0.04

    def step(self, model: nn.Module, batch: Batch) -> Step:
        logits, _ = model(batch.images)
        logits = logits.float()
        return Step(logit_norm(logits, batch.labels, self.tau), logits)


METHODS: dict[str, type[CrossEntropy] | type[LogitNorm]] = {
    "cross-entropy": CrossEntropy,
    "logitnorm": LogitNorm,
}


def make(name: str, options: dict[str, Any]) -> Method:
    """Build a method of :data:`METHODS` with its hyperparameters.

    Raises:
        TrainingError: for an unknown method or hyperparameter; the message lists the known ones.
    """
    if name not in METHODS:
        raise TrainingError(f"unknown method {name!r}; choose one of {', '.join(METHODS)}")
    known = [field.name for field in dataclasses.fields(METHODS[name])]
    if unknown := sorted(options.keys() - set(known)):
        raise TrainingError(f"method {name!r} has no hyperparameter {unknown[0]!r}; it has {known}")
    return METHODS[name](**options)
