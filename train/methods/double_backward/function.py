"""What the operations share: how autograd functions are called, values that are known before, and recorded steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

Known = tuple[Tensor, ...]  # what an operation gives, and the batch statistics it used

aten = torch.ops.aten


def apply(function: type[torch.autograd.Function], *args: Any) -> Tensor:
    """What an autograd function gives; torch has no annotations for it."""
    result: Tensor = function.apply(*args)  # type: ignore[no-untyped-call]
    return result


def recorded(tensor: Tensor) -> bool:
    """Whether what is done to a tensor is recorded as a CUDA graph."""
    return tensor.is_cuda and torch.cuda.is_current_stream_capturing()
