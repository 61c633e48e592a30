"""Outlier Exposure: outliers to the uniform distribution (Hendrycks et al. 2019, arXiv:1812.04606)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from train.methods.base import OutlierMethod, require


def uniform_cross_entropy(logits: Tensor) -> Tensor:
    """Cross-entropy of softmax(f) to the uniform distribution, logsumexp(f) - mean_k f_k; (B, K) -> (B,), >= log K."""
    return logits.logsumexp(dim=1) - logits.mean(dim=1)


@dataclass(frozen=True)
class OutlierExposure(OutlierMethod):
    """Cross-entropy plus `weight` times the outliers' cross-entropy to the uniform distribution."""

    weight: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require((self.weight >= 0, f"weight must be at least 0, found {self.weight:g}"))

    def terms(self, known: Tensor, outliers: Tensor, labels: Tensor) -> dict[str, Tensor]:
        loss = uniform_cross_entropy(outliers).mean()
        return {"cross_entropy": F.cross_entropy(known, labels), "exposure": self.weight * loss}
