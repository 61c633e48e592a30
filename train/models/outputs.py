"""What networks of any library return, and the logits among it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor, nn


class Logits(nn.Module):
    """The logits of a network that returns them among other things, as transformers' do, or as the only one of a list."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        outputs = self.network(x)
        return outputs if isinstance(outputs, Tensor) else first(outputs)


def first(outputs: Any) -> Tensor:
    """The logits of outputs that name them, and of others the first."""
    if isinstance(outputs, Mapping):
        return cast(Tensor, outputs["logits"])
    return cast(Tensor, outputs.logits if hasattr(outputs, "logits") else outputs[0])


def has_logits(output: object) -> bool:
    """Whether outputs name their logits, or are a list of one tensor."""
    if isinstance(output, Mapping):
        return "logits" in output
    if isinstance(output, tuple | list) and len(output) == 1:
        return isinstance(output[0], Tensor)
    return isinstance(getattr(output, "logits", None), Tensor)
