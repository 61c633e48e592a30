"""Convolution and batch normalisation whose backward pass can itself be differentiated on fast kernels.

torch differentiates their backward passes by generic formulas that are several times slower than the passes
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

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_aten = torch.ops.aten
_Convolution = tuple[Sequence[int], Sequence[int], Sequence[int], int]  # stride, padding, dilation, groups


class FastDoubleBackward(TorchFunctionMode):
    """Within this context the forward pass of any network records these operations in place of torch's own.

    A backward pass that builds a graph (``create_graph=True``) then yields the gradient with respect to the input
    alone: weights get none. That is the first half of an input-gradient penalty; the second half, an ordinary
    backward pass, yields them all.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return _OPERATIONS.get(func, func)(*args, **(kwargs or {}))


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    """:func:`torch.nn.functional.conv2d`; torch's own for an unbatched input or padding given as a word."""
    if input.ndim != 4 or isinstance(padding, str) or not torch.is_grad_enabled():
        return F.conv2d(input, weight, bias, stride, padding, dilation, groups)
    input, weight, bias = _autocast(input, weight, bias)
    settings = (_pair(stride), _pair(padding), _pair(dilation), groups)
    return _apply(_Conv2d, input, weight, bias, settings)


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """:func:`torch.nn.functional.batch_norm`; torch's own outside of training."""
    if not training or not torch.is_grad_enabled():
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    return _apply(_BatchNorm, input, weight, bias, running_mean, running_var, momentum, eps)


_OPERATIONS: dict[Callable[..., Any], Callable[..., Any]] = {F.conv2d: conv2d, F.batch_norm: batch_norm}


class _Conv2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, settings: _Convolution) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.settings, ctx.has_bias = settings, bias is not None
        return F.conv2d(x, weight, bias, *settings)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (g,) = gradients
        x, weight = ctx.saved_tensors
        if torch.is_grad_enabled():
            return _apply(_Conv2dInputGradient, g, weight, x.detach(), ctx.settings), None, None, None
        wanted = (ctx.needs_input_grad[0], True, ctx.has_bias)
        return *_convolution_backward(g, x, weight, ctx.settings, wanted), None


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
    ) -> Tensor:
        y: Tensor
        y, mean, inverse = _aten.native_batch_norm(x, weight, bias, running_mean, running_var, True, momentum, eps)
        ctx.save_for_backward(x, weight, mean, inverse)
        ctx.eps = eps
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (g,) = gradients
        x, weight, mean, inverse = ctx.saved_tensors
        if torch.is_grad_enabled():
            along_input = _apply(_BatchNormInputGradient, g, x, weight, mean, inverse, ctx.eps)
            return along_input, None, None, None, None, None, None
        wanted = (True, weight is not None, ctx.needs_input_grad[2])
        return *_batch_norm_backward(g, x, weight, mean, inverse, ctx.eps, wanted), None, None, None, None


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
        axes = [0, *range(2, x.ndim)]
        p = (a * g).sum(axes, dtype=mean.dtype) / count - mean_a * mean_g - m_a * m_g
        factor = inverse.square() if weight is None else weight * inverse.square()
        of_x = factor * (2 * m_a * m_g - p) * inverse
        constant = factor * (m_g * mean_a + m_a * mean_g) - of_x * mean

        def by_channel(values: Tensor) -> Tensor:
            return values.view(1, -1, *[1] * (x.ndim - 2))

        along_x = x * by_channel(of_x) + by_channel(constant)
        along_x.addcmul_(a, by_channel(-factor * m_g)).addcmul_(g, by_channel(-factor * m_a))
        along_weight = None if weight is None else count * p * inverse
        return along_g, along_x.to(x.dtype), along_weight, None, None, None


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
