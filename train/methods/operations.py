"""Convolution, batch normalisation and rectifier whose backward pass can itself be differentiated on fast kernels.

torch differentiates the backward passes of the first two by generic formulas that are several times slower than the passes
themselves. Both are maps whose derivative is made of the same maps, so that first-order kernels suffice:

* the input gradient of a convolution is linear in the output's gradient g and in the weight w; its derivative along
  a is the convolution of a with w, and the weight gradient of the pair (g, a);
* the input gradient of batch normalisation, J g = (w / s) (g - mean g - x' mean(g x')) with x' = (x - mean x) / s
  and s^2 = var x + eps, is symmetric: its derivative along a in g is J a, by the same kernel. Its derivative in x,

      d<a, J g>/dx = (w / s^2) ((2 m_a m_g - p) x' - m_g (a - mean a) - m_a (g - mean g)),
      p = mean(a g) - mean a mean g - m_a m_g,  m_a = mean(a x'),  m_g = mean(g x'),

  takes one reduction and three multiply-adds more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Known = tuple[Tensor, ...]  # what an operation gives, and the batch statistics it used

_aten = torch.ops.aten
_Convolution = tuple[Sequence[int], Sequence[int], Sequence[int], int]  # stride, padding, dilation, groups


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    *,
    known: Known | None = None,
) -> Tensor:
    """:func:`torch.nn.functional.conv2d`; torch's own for an unbatched input or padding given as a word."""
    if input.ndim != 4 or isinstance(padding, str) or not torch.is_grad_enabled():
        return F.conv2d(input, weight, bias, stride, padding, dilation, groups)
    input, weight, bias = _autocast(input, weight, bias)
    settings = (_pair(stride), _pair(padding), _pair(dilation), groups)
    return _apply(_Conv2d, input, weight, bias, settings, known)


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
    """:func:`torch.nn.functional.batch_norm`; torch's own outside of training."""
    if not training or not torch.is_grad_enabled():
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    return _apply(_BatchNorm, input, weight, bias, running_mean, running_var, momentum, eps, known)


def relu(input: Tensor, inplace: bool = False, *, known: Known | None = None) -> Tensor:
    """:func:`torch.nn.functional.relu`; torch's own where its output is not known."""
    return F.relu(input, inplace) if known is None else _apply(_Relu, input, known)


class _Conv2d(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, settings: _Convolution, known: Known | None
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.settings, ctx.has_bias = settings, bias is not None
        return known[0] if known else F.conv2d(x, weight, bias, *settings)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (g,) = gradients
        x, weight = ctx.saved_tensors
        if torch.is_grad_enabled():
            return _apply(_Conv2dInputGradient, g, weight, x.detach(), ctx.settings), None, None, None, None
        wanted = (ctx.needs_input_grad[0], True, ctx.has_bias)
        return *_convolution_backward(g, x, weight, ctx.settings, wanted), None, None


class _Conv2dInputGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, g: Tensor, weight: Tensor, x: Tensor, settings: _Convolution) -> Tensor:
        ctx.save_for_backward(g, weight)
        ctx.settings = settings
        return _convolution_backward(g, x, weight, settings, (True, False, False))[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (a,) = gradients
        g, weight = ctx.saved_tensors
        along_weight = _convolution_backward(g, a, weight, ctx.settings, (False, True, False))[1]
        return F.conv2d(a, weight, None, *ctx.settings), along_weight, None, None


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
            along_input = _apply(_BatchNormInputGradient, g, x, weight, mean, inverse, ctx.eps)
            return along_input, None, None, None, None, None, None, None
        wanted = (True, weight is not None, ctx.needs_input_grad[2])
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
        along_x = _affine(x, of_x, constant).add_(_affine(a, -factor * m_g)).add_(_affine(g, -factor * m_a))
        along_weight = None if weight is None else count * p * inverse
        return along_g, along_x, along_weight, None, None, None


class _Relu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, known: Known) -> Tensor:  # noqa: ARG004
        ctx.save_for_backward(known[0])
        return known[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (y,) = ctx.saved_tensors
        return _aten.threshold_backward(gradients[0], y.detach(), 0), None


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
    result: tuple[Tensor, Tensor, Tensor] = _aten.native_batch_norm(
        x, weight, bias, running_mean, running_var, training, momentum, eps
    )
    return result


def _convolution_backward(
    g: Tensor, x: Tensor, weight: Tensor, settings: _Convolution, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor, Tensor, Tensor]:
    stride, padding, dilation, groups = settings
    result: tuple[Tensor, Tensor, Tensor] = _aten.convolution_backward(
        g, x, weight, [weight.shape[0]], stride, padding, dilation, False, (0, 0), groups, wanted
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
    result: tuple[Tensor, Tensor, Tensor] = _aten.native_batch_norm_backward(
        g, x, weight, None, None, mean, inverse, True, eps, wanted
    )
    return result


def _covariance(g: Tensor, a: Tensor, mean_a: Tensor) -> Tensor:
    """mean(g a) - mean g mean a by channel: what batch normalisation's backward pass computes for its weight."""
    one = torch.ones_like(mean_a)
    total: Tensor = _aten.native_batch_norm_backward(
        g, a, one, None, None, mean_a, one, True, 0.0, (False, True, False)
    )[1]
    return total / (a.numel() / a.shape[1])


def _affine(x: Tensor, scale: Tensor, shift: Tensor | None = None) -> Tensor:
    """x scale + shift by channel, in the precision of x and one pass over it."""
    zero, one = torch.zeros_like(scale), torch.ones_like(scale)
    return F.batch_norm(x, zero, one, scale, zero if shift is None else shift, eps=0.0)


def _autocast(*tensors: Tensor | None) -> Any:
    """As autocast hands them to a convolution; it does not look into an autograd function."""
    kind = next(tensor.device.type for tensor in tensors if tensor is not None)
    if not torch.is_autocast_enabled(kind):
        return tensors
    dtype = torch.get_autocast_dtype(kind)
    return tuple(t.to(dtype) if t is not None and t.dtype == torch.float32 else t for t in tensors)


def _pair(value: int | Sequence[int]) -> Sequence[int]:
    return (value, value) if isinstance(value, int) else value


def _apply(function: type[torch.autograd.Function], *args: Any) -> Tensor:
    result: Tensor = function.apply(*args)  # type: ignore[no-untyped-call]
    return result
