"""Dropout whose mask is drawn once where a network runs twice: kernels of two precisions may draw two."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from train.methods.double_backward.function import Known, aten, recorded


def dropout(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, *, known: Known | None = None
) -> Tensor:
    """:func:`torch.nn.functional.dropout`."""
    if known is None or not training:
        return F.dropout(input, p, training, inplace)
    if not recorded(input):
        aten.native_dropout(input, p, True)  # what draws behind it draws what it drew before
    return input * known[1].to(input.dtype) * (1 / (1 - p) if p < 1 else 0.0)


def with_mask(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> tuple[Tensor, ...]:  # noqa: ARG001  as it is called
    """What it gives, and in training which elements stay."""
    if not training:
        return (input,)
    result: tuple[Tensor, Tensor] = aten.native_dropout(input, p, True)
    return result
