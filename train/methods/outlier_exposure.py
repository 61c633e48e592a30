"""Outlier Exposure: outliers to the uniform distribution (Hendrycks et al. 2019, arXiv:1812.04606)."""

from __future__ import annotations

from torch import Tensor


def uniform_cross_entropy(logits: Tensor) -> Tensor:
    """Cross-entropy of softmax(f) to the uniform distribution, logsumexp(f) - mean_k f_k; (B, K) -> (B,), >= log K."""
    return logits.logsumexp(dim=1) - logits.mean(dim=1)
