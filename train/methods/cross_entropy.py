"""Methods that learn from labelled in-distribution images alone."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from torch.nn import functional as F

from train.methods.base import Batch, Method, Step, logits_of
from train.methods.logit_penalty import logit_penalty
from train.methods.logitnorm import logit_norm


@dataclass(frozen=True)
class CrossEntropy(Method):
    """Softmax cross-entropy, the baseline."""

    def step(self, model: nn.Module, batch: Batch) -> Step:
        logits = logits_of(model, batch.images)
        return Step({"cross_entropy": F.cross_entropy(logits, batch.labels)}, logits)


@dataclass(frozen=True)
class LogitNorm(Method):
    """Logit normalisation: cross-entropy of logits of norm 1 / tau."""

    tau: float = 0.04

    def step(self, model: nn.Module, batch: Batch) -> Step:
        logits = logits_of(model, batch.images)
        return Step({"logit_norm": logit_norm(logits, batch.labels, self.tau)}, logits)


@dataclass(frozen=True)
class LogitPenalty(Method):
    """Cross-entropy plus a penalty on the logits' norm, LogitNorm's ablation."""

    weight: float = 0.05

    def step(self, model: nn.Module, batch: Batch) -> Step:
        logits = logits_of(model, batch.images)
        return Step({"logit_penalty": logit_penalty(logits, batch.labels, self.weight)}, logits)
