"""Energy loss: in-distribution images to low energy, outliers to high (Liu et al. 2020; GReg eq. 1)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from train.methods.base import OutlierMethod, require
from train.models.projection import WithProjection


def energy(logits: Tensor) -> Tensor:
    """S_En = -logsumexp(f), (B, K) -> (B,); LOW means in-distribution here, the papers' sign, opposite to the scores."""
    return -logits.logsumexp(dim=1)


def energy_loss(energy_in: Tensor, energy_aux: Tensor, m_in: float, m_aux: float) -> Tensor:
    """Squared hinges that vanish for images whose energy is low, respectively high, enough (GReg eq. 1).

        L = E_in [max(0, S - m_in)^2] + E_aux [max(0, m_aux - S)^2]

    Args:
        energy_in, energy_aux: S_En of in-distribution images (B,) and of outliers (A,).
        m_in: in-distribution images with less energy cost nothing.
        m_aux: outliers with more energy cost nothing; m_in < m_aux.

    Returns:
        a scalar.
    """
    return (energy_in - m_in).relu().square().mean() + (m_aux - energy_aux).relu().square().mean()


@dataclass(frozen=True)
class Energy(OutlierMethod):
    """Cross-entropy plus `weight` times the energy loss (GReg eq. 1)."""

    weight: float = 0.1  # lambda_S
    m_in: float = -23.0  # the margins of the energy code for CIFAR-10 (Liu et al. 2020)
    m_aux: float = -5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require((self.weight >= 0, f"weight must be at least 0, found {self.weight:g}"))

    def examine(self, model: nn.Module, images: Tensor) -> list[str]:
        return [*super().examine(model, images), *_unreachable(model, self.m_in)]

    def terms(self, known: Tensor, outliers: Tensor, labels: Tensor) -> dict[str, Tensor]:
        loss = energy_loss(energy(known), energy(outliers), self.m_in, self.m_aux)
        return {"cross_entropy": F.cross_entropy(known, labels), "energy": self.weight * loss}


def _unreachable(model: nn.Module, m_in: float) -> Iterator[str]:
    """That no image of a network with cosine logits, in [-1 / T, 1 / T], has as little energy as `m_in`."""
    for head in model.modules():
        if isinstance(head, WithProjection) and head.prototypes is not None:
            least = -(1 / head.temperature + math.log(len(head.prototypes.weight)))
            if m_in < least:
                yield (
                    f"m_in={m_in:g} can't be reached: the cosine logits of {len(head.prototypes.weight)} classes have an "
                    f"energy of {least:.4g} at least; --set m_in={0.8 * least:.2g} can"
                )
