"""Gradient regularisation: a flat score around images that are already detected right (GReg eq. 3)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

# What the norms are averaged over; see gradient_loss.
Reduction = Literal["sample", "batch"]


def gradient_norms(score: Tensor, images: Tensor, detected: Tensor, *, create_graph: bool = True) -> Tensor:
    """||1[detected] grad_x S||_2 of each image, differentiable with respect to the weights.

    In training mode batch normalisation ties the images of a batch together; grad_x S is then the gradient of the
    detected images' summed score, as automatic differentiation has it.

    Args:
        score: S, (B,), a function of `images`.
        images: (B, C, H, W), requiring grad.
        detected: bool (B,), the images whose score is already on its side of the margin.
        create_graph: whether the norms shall be differentiable; to watch them only costs a third.

    Returns:
        (B,), at least 0, in units of the score over those of `images`; 0 where not detected. At a gradient of
        exactly zero the derivative is taken as zero.
    """
    total = (score * detected).sum()
    (gradient,) = torch.autograd.grad(total, images, retain_graph=True, create_graph=create_graph)
    norms: Tensor = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    return norms * detected


def gradient_loss(norms_in: Tensor, norms_aux: Tensor, reduction: Reduction = "sample", processes: int = 1) -> Tensor:
    """The gradient loss from the norms of :func:`gradient_norms`.

        L = E_in ||1[S <= m_in] grad_x S|| + E_aux ||1[S >= m_aux] grad_x S||

    Args:
        norms_in, norms_aux: of in-distribution images (B,) and of outliers (A,).
        reduction: ``sample`` is the equation. ``batch`` divides it by the number of images, B + A, as the authors'
            released code does: it differentiates the mean of the batch's hinges, so that every image's gradient
            carries a factor 1 / B or 1 / A, and then averages the norms over the joint batch.
        processes: how many processes hold as many images each.

    Returns:
        a scalar.
    """
    loss = norms_in.mean() + norms_aux.mean()
    return loss if reduction == "sample" else loss / (processes * (len(norms_in) + len(norms_aux)))
