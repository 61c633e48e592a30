"""Energy loss: in-distribution images to low energy, outliers to high (Liu et al. 2020; GReg eq. 1)."""

from __future__ import annotations

from torch import Tensor


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
