"""Softmax cross-entropy."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from torch.nn import functional as F

from train.methods.base import Batch, Method, Step, logits_of


@dataclass(frozen=True)
class CrossEntropy(Method):
    """Softmax cross-entropy, the baseline."""

    def step(self, model: nn.Module, batch: Batch) -> Step:
        logits = logits_of(model, batch.images)
        return Step({"cross_entropy": F.cross_entropy(logits, batch.labels)}, logits)
