"""Logit penalty, the ablation of LogitNorm (Wei et al. 2022, section 5)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from train.methods.base import Batch, Method, Step, logits_of, require


def logit_penalty(logits: Tensor, labels: Tensor, weight: float = 0.05) -> Tensor:
    """Cross-entropy plus a penalty on the logits' norm, L_CE(f, y) + weight ||f||_2; the mean over the batch.

    Args:
        logits: f, (B, K).
        labels: y, int64 (B,), or probabilities (B, K).
        weight: lambda; 0.05 is the value of LogitNorm's table 9.
    """
    norm: Tensor = logits.norm(p=2, dim=1)
    return F.cross_entropy(logits, labels) + weight * norm.mean()


@dataclass(frozen=True)
class LogitPenalty(Method):
    """Cross-entropy plus a penalty on the logits' norm, LogitNorm's ablation."""

    weight: float = 0.05

    def __post_init__(self) -> None:
        require((self.weight >= 0, f"weight must be at least 0, found {self.weight:g}"))

    def step(self, model: nn.Module, batch: Batch) -> Step:
        logits = logits_of(model, batch.images)
        return Step({"logit_penalty": logit_penalty(logits, batch.labels, self.weight)}, logits)
