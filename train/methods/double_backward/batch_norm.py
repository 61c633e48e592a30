"""Batch normalisation whose backward pass is differentiated on first-order kernels.

torch differentiates it by a generic formula that is several times slower. With the statistics of the batch the input
gradient, J g = (w / s) (g - mean g - x' mean(g x')) with x' = (x - mean x) / s and s^2 = var x + eps, is symmetric: its
derivative along a in g is J a, by the same kernel. Its derivative in x,

    d<a, J g>/dx = (w / s^2) ((2 m_a m_g - p) x' - m_g (a - mean a) - m_a (g - mean g)),
    p = mean(a g) - mean a mean g - m_a m_g,  m_a = mean(a x'),  m_g = mean(g x'),

takes one reduction and three multiply-adds more. With statistics that are kept, as in evaluation mode or where it is frozen,
it is linear: J g = (w / s) g.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from train.methods.double_backward.function import Known, apply, aten


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    known: Known | None = None,
) -> Tensor:
    """:func:`torch.nn.functional.batch_norm`."""
    if not torch.is_grad_enabled():
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    if training:
        return apply(_BatchNorm, input, weight, bias, running_mean, running_var, momentum, eps, known)
    return apply(_FrozenBatchNorm, input, weight, bias, running_mean, running_var, eps, known)


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        momentum: float,
        eps: float,
        known: Known | None,
    ) -> Tensor:
        y, mean, inverse = known or with_statistics(x, running_mean, running_var, weight, bias, True, momentum, eps)
        ctx.save_for_backward(x, weight, mean, inverse)
        ctx.eps = eps
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (g,) = gradients
        x, weight, mean, inverse = ctx.saved_tensors
        if torch.is_grad_enabled():
            along_input = apply(_BatchNormInputGradient, g, x, weight, mean, inverse, ctx.eps)
            return along_input, None, None, None, None, None, None, None
        wanted = (True, *ctx.needs_input_grad[1:3])
        return *_batch_norm_backward(g, x, weight, mean, inverse, ctx.eps, wanted), None, None, None, None, None


class _BatchNormInputGradient(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, g: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor, inverse: Tensor, eps: float
    ) -> Tensor:
        gradient, scaled, total = _batch_norm_backward(g, x, weight, mean, inverse, eps)
        ctx.save_for_backward(g, x, weight, mean, inverse, scaled, total)
        ctx.eps = eps
        return gradient

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (a,) = gradients
        g, x, weight, mean, inverse, scaled, total = ctx.saved_tensors
        along_g, a_scaled, a_total = _batch_norm_backward(a, x, weight, mean, inverse, ctx.eps)
        count = x.numel() / x.shape[1]
        m_a, m_g, mean_a, mean_g = (t / count for t in (a_scaled, scaled, a_total, total))
        p = _covariance(g, a, mean_a) - m_a * m_g
        factor = inverse.square() if weight is None else weight * inverse.square()
        of_x = factor * (2 * m_a * m_g - p) * inverse
        constant = factor * (m_g * mean_a + m_a * mean_g) - of_x * mean
        along_x = _add(_add(_affine(x, of_x, constant), a, -factor * m_g), g, -factor * m_a)
        along_weight = None if weight is None else count * p * inverse
        return along_g, along_x, along_weight, None, None, None


class _FrozenBatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        variance: Tensor,
        eps: float,
        known: Known | None,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean.clone(), variance.clone())  # others may go on to change these
        ctx.eps = eps
        return known[0] if known else F.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (g,) = gradients
        x, weight, mean, variance = ctx.saved_tensors
        if torch.is_grad_enabled():
            return apply(_FrozenBatchNormInputGradient, g, weight, variance, ctx.eps), *[None] * 6
        wanted = ctx.needs_input_grad[:3]
        return *_frozen_backward(g, x, weight, mean, variance, ctx.eps, wanted), None, None, None, None


class _FrozenBatchNormInputGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, g: Tensor, weight: Tensor | None, variance: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(g, weight, variance)
        ctx.eps = eps
        return _frozen_backward(g, g, weight, torch.zeros_like(variance), variance, eps, (True, False, False))[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (a,) = gradients
        g, weight, variance = ctx.saved_tensors
        wanted = (*ctx.needs_input_grad[:2], False)
        along = _frozen_backward(a, g, weight, torch.zeros_like(variance), variance, ctx.eps, wanted)
        return along[0], along[1], None, None


def with_statistics(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`torch.nn.functional.batch_norm`, and the mean and the inverse deviation of each channel."""
    result: tuple[Tensor, Tensor, Tensor] = aten.native_batch_norm(
        x, weight, bias, running_mean, running_var, training, momentum, eps
    )
    return result


def _batch_norm_backward(
    g: Tensor,
    x: Tensor,
    weight: Tensor | None,
    mean: Tensor,
    inverse: Tensor,
    eps: float,
    wanted: tuple[bool, bool, bool] = (True, True, True),
) -> tuple[Tensor, Tensor, Tensor]:
    """J g, sum(g x') and sum(g); the sums by channel, in the precision of the statistics."""
    scale = torch.ones_like(mean) if weight is None else weight  # without one CUDA's kernel has no sums
    result: tuple[Tensor, Tensor, Tensor] = aten.native_batch_norm_backward(
        g, x, scale, None, None, mean, inverse, True, eps, wanted
    )
    return result


def _frozen_backward(
    g: Tensor,
    x: Tensor,
    weight: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    eps: float,
    wanted: tuple[bool, bool, bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """(w / s) g, sum(g x') and sum(g) with the statistics given; the sums by channel."""
    unsaved = variance.new_empty(0)  # CUDA's kernel wants statistics of a batch, if only empty ones
    scale = torch.ones_like(mean) if weight is None else weight
    result: tuple[Tensor, Tensor, Tensor] = aten.native_batch_norm_backward(
        g, x, scale, mean, variance, unsaved, unsaved, False, eps, wanted
    )
    return result


def _covariance(g: Tensor, a: Tensor, mean_a: Tensor) -> Tensor:
    """mean(g a) - mean g mean a by channel: what batch normalisation's backward pass computes for its weight."""
    one = torch.ones_like(mean_a)
    total: Tensor = aten.native_batch_norm_backward(
        g, a, one, None, None, mean_a, one, True, 0.0, (False, True, False)
    )[1]
    return total / (a.numel() / a.shape[1])


def _affine(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """x scale + shift by channel, in the precision of x and one pass over it."""
    none, one = torch.zeros_like(scale), torch.ones_like(scale)
    # torch's own function refuses an epsilon of 0 in versions before 2.13.
    return torch.batch_norm(x, scale, shift, none, one, False, 0.0, 0.0, False)


def _add(total: Tensor, x: Tensor, scale: Tensor) -> Tensor:
    """`total`, to which x scale, by channel, has been added in place and in one pass.

    Where channels lie side by side in memory, the scales are repeated along an image: loops over a few are slow.
    """
    scale = scale.to(total.dtype)
    if total.stride(1) != 1:
        return total.addcmul_(x, scale.view(-1, *[1] * (total.ndim - 2)))
    rows = total.movedim(1, -1).view(len(total), -1)
    rows.addcmul_(x.movedim(1, -1).reshape(rows.shape), scale.repeat(rows.shape[1] // len(scale)))
    return total
