"""Convolution whose backward pass is differentiated on first-order kernels.

torch differentiates it by a generic formula that is several times slower. The input gradient of a convolution is linear
in the output's gradient g and in the weight w; its derivative along a is the convolution of a with w, and the weight
gradient of the pair (g, a).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from train.methods.double_backward.function import Known, apply, aten

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
    return apply(_Conv2d, input, weight, bias, settings, known)


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
            return apply(_Conv2dInputGradient, g, weight, x.detach(), ctx.settings), None, None, None, None
        wanted = (*ctx.needs_input_grad[:2], ctx.has_bias and ctx.needs_input_grad[2])
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
        along_weight = None
        if ctx.needs_input_grad[1]:
            along_weight = _convolution_backward(g, a, weight, ctx.settings, (False, True, False))[1]
        return F.conv2d(a, weight, None, *ctx.settings), along_weight, None, None


def _convolution_backward(
    g: Tensor, x: Tensor, weight: Tensor, settings: _Convolution, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor, Tensor, Tensor]:
    stride, padding, dilation, groups = settings
    result: tuple[Tensor, Tensor, Tensor] = aten.convolution_backward(
        g, x, weight, [weight.shape[0]], stride, padding, dilation, False, (0, 0), groups, wanted
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
