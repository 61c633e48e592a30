"""Training methods: what the loss of a batch is. :data:`METHODS` lists them; nothing else knows their names."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.exceptions import TrainingError
from train.losses.energy import energy, energy_loss
from train.losses.logit_norm import logit_norm
from train.losses.logit_penalty import logit_penalty
from train.losses.outlier_exposure import uniform_cross_entropy


@dataclass(frozen=True)
class Batch:
    """Augmented, normalised images (B, 3, H, W) and their labels (B,); auxiliary outliers (A, 3, H, W), if any."""

    images: Tensor
    labels: Tensor
    outliers: Tensor | None = None


@dataclass(frozen=True)
class Step:
    """What a method makes of a batch: the loss to descend, and the logits (B, K) for the accuracy shown."""

    loss: Tensor
    logits: Tensor


class Method(Protocol):
    """A frozen dataclass whose fields are the method's hyperparameters."""

    needs_outliers: ClassVar[bool]

    def step(self, model: nn.Module, batch: Batch) -> Step:
        """Forward pass and loss of one batch."""


@dataclass(frozen=True)
class CrossEntropy:
    """Softmax cross-entropy, the baseline."""

    needs_outliers: ClassVar[bool] = False

    def step(self, model: nn.Module, batch: Batch) -> Step:
        logits = _logits(model, batch.images)
        return Step(F.cross_entropy(logits, batch.labels), logits)


@dataclass(frozen=True)
class LogitNorm:
    """Logit normalisation: cross-entropy of logits of norm 1 / tau."""

    needs_outliers: ClassVar[bool] = False

    tau: float = 0.04

    def step(self, model: nn.Module, batch: Batch) -> Step:
        logits = _logits(model, batch.images)
        return Step(logit_norm(logits, batch.labels, self.tau), logits)


@dataclass(frozen=True)
class LogitPenalty:
    """Cross-entropy plus a penalty on the logits' norm, LogitNorm's ablation."""

    needs_outliers: ClassVar[bool] = False

    weight: float = 0.05

    def step(self, model: nn.Module, batch: Batch) -> Step:
        logits = _logits(model, batch.images)
        return Step(logit_penalty(logits, batch.labels, self.weight), logits)


@dataclass(frozen=True)
class Energy:
    """Cross-entropy plus `weight` times the energy loss; margins of the energy code for CIFAR-10 (Liu et al. 2020)."""

    needs_outliers: ClassVar[bool] = True

    weight: float = 0.1
    m_in: float = -23.0
    m_aux: float = -5.0

    def step(self, model: nn.Module, batch: Batch) -> Step:
        known, outliers = _both(model, batch)
        loss = energy_loss(energy(known), energy(outliers), self.m_in, self.m_aux)
        return Step(F.cross_entropy(known, batch.labels) + self.weight * loss, known)


@dataclass(frozen=True)
class OutlierExposure:
    """Cross-entropy plus `weight` times the outliers' cross-entropy to the uniform distribution."""

    needs_outliers: ClassVar[bool] = True

    weight: float = 0.5

    def step(self, model: nn.Module, batch: Batch) -> Step:
        known, outliers = _both(model, batch)
        loss = uniform_cross_entropy(outliers).mean()
        return Step(F.cross_entropy(known, batch.labels) + self.weight * loss, known)


METHODS: dict[str, type[Method]] = {
    "cross-entropy": CrossEntropy,
    "logitnorm": LogitNorm,
    "logit-penalty": LogitPenalty,
    "energy": Energy,
    "oe": OutlierExposure,
}


def make(name: str, options: dict[str, Any]) -> Method:
    """Build a method of :data:`METHODS` with its hyperparameters.

    Raises:
        TrainingError: for an unknown method or hyperparameter; the message lists the known ones.
    """
    if name not in METHODS:
        raise TrainingError(f"unknown method {name!r}; choose one of {', '.join(METHODS)}")
    known = [field.name for field in dataclasses.fields(cast(Any, METHODS[name]))]
    if unknown := sorted(options.keys() - set(known)):
        raise TrainingError(f"method {name!r} has no hyperparameter {unknown[0]!r}; it has {known}")
    return METHODS[name](**options)


def _logits(model: nn.Module, images: Tensor) -> Tensor:
    """(B, K), float32 whatever the network's precision, because losses need it."""
    logits, _ = model(images)
    return cast(Tensor, logits.float())


def _both(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Logits of images and outliers from one forward pass, so that batch normalisation sees both."""
    assert batch.outliers is not None, "the loop gives outliers to a method that needs them"
    logits = _logits(model, torch.cat([batch.images, batch.outliers]))
    known, outliers = torch.split(logits, [len(batch.images), len(batch.outliers)])
    return known, outliers
