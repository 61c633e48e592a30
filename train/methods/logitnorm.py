"""Logit normalisation (Wei et al. 2022, LogitNorm)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from train.methods.base import Batch, Method, Step, logits_of, require


def logit_norm(logits: Tensor, labels: Tensor, tau: float = 0.04, epsilon: float = 1e-7) -> Tensor:
    """Cross-entropy of logits scaled to the constant norm 1 / tau (LogitNorm eq. 4).

        L = -log( exp(f_y / (tau ||f||)) / sum_i exp(f_i / (tau ||f||)) )

    Args:
        logits: f, (B, K).
        labels: y, int64 (B,), or probabilities (B, K).
        tau: temperature; 0.04 is the paper's choice for CIFAR-10.
        epsilon: added to ||f||, the paper's guard against a zero norm.

    Returns:
        The mean loss, a scalar; never below ``log(1 + (K - 1) exp(-2 / tau))`` (proposition 3.3).
    """
    norm = logits.norm(p=2, dim=1, keepdim=True) + epsilon
    return F.cross_entropy(logits / norm / tau, labels)


@dataclass(frozen=True)
class LogitNorm(Method):
    """Logit normalisation: cross-entropy of logits of norm 1 / tau."""

    tau: float = 0.04

    def __post_init__(self) -> None:
        require((self.tau > 0, f"tau must be positive, found {self.tau:g}"))

    def step(self, model: nn.Module, batch: Batch) -> Step:
        logits = logits_of(model, batch.images)
        return Step({"logit_norm": logit_norm(logits, batch.labels, self.tau)}, logits)
