"""What the operations share: how autograd functions are called, and values that are known before."""

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
