"""Rectifiers whose backward pass is differentiated by what flows back alone.

max(low, min(x, high)) lets pass or stops a gradient; the derivative of that by x is zero, which torch stores, and adds.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, autograd
from torch.nn import functional as F

from train.methods.double_backward.function import Known, apply, aten


def relu(input: Tensor, inplace: bool = False, *, known: Known | None = None) -> Tensor:
    """:func:`torch.nn.functional.relu`."""
    return hardtanh(input, 0.0, math.inf, inplace, known=known)


def relu6(input: Tensor, inplace: bool = False, *, known: Known | None = None) -> Tensor:
    """:func:`torch.nn.functional.relu6`."""
    return hardtanh(input, 0.0, 6.0, inplace, known=known)


def hardtanh(
    input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False, *, known: Known | None = None
) -> Tensor:
    """:func:`torch.nn.functional.hardtanh`."""
    return apply(_Rectifier, input, min_val, max_val, inplace, known)


class _Rectifier(autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float, inplace: bool, known: Known | None) -> Tensor:
        if inplace:
            ctx.mark_dirty(x)
            y = x.copy_(known[0]) if known else F.hardtanh(x, low, high, inplace=True)
        else:
            y = known[0] if known else F.hardtanh(x, low, high)
        ctx.save_for_backward(y)
        ctx.range = low, high
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (y,) = ctx.saved_tensors
        return apply(_Passed, gradients[0], y.detach(), *ctx.range), None, None, None, None


class _Passed(autograd.Function):
    """What flows back where a rectifier's output is within its range."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, y: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(y)
        ctx.range = low, high
        passed: Tensor = aten.hardtanh_backward(g, y, low, high)
        return passed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (y,) = ctx.saved_tensors
        return aten.hardtanh_backward(gradients[0], y, *ctx.range), None, None, None
