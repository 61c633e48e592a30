"""A network as an extractor of features: one row an image, whatever it returns them in; and no logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from export.exceptions import ExportError


class Features(nn.Module):
    """(logits (B, 0), features (B, D)) of a network that returns features, as a classifier returns its pair.

    Args:
        network: returns what :func:`rows` takes.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = rows(self.network(x))
        return features[:, :0], features


def rows(outputs: Any) -> Tensor:
    """Features (B, D) of what a network returns.

    A tensor (B, D); a feature map (B, D, h, w), of which the mean over its positions is taken; a pair (logits, features),
    of which the second counts; a list of one; or what transformers return, by its ``pooler_output``.

    Raises:
        ExportError: something else.
    """
    given = outputs
    if isinstance(outputs, Mapping) or hasattr(outputs, "pooler_output"):
        outputs = outputs["pooler_output"] if isinstance(outputs, Mapping) else outputs.pooler_output
    elif isinstance(outputs, tuple | list) and len(outputs) in (1, 2):
        outputs = outputs[-1]
    if isinstance(outputs, Tensor) and outputs.ndim == 4:
        outputs = outputs.mean((2, 3)) if outputs.shape[2:].numel() > 1 else outputs.flatten(1)
    if not isinstance(outputs, Tensor) or outputs.ndim != 2:
        found = list(outputs.shape) if isinstance(outputs, Tensor) else type(given).__name__
        raise ExportError(f"expected features [N, D] or a feature map [N, D, h, w], found {found}")
    return outputs


def remark(outputs: Any) -> str:
    """What is taken for the features, in a line."""
    width = rows(outputs).shape[1]
    if isinstance(outputs, tuple | list) and len(outputs) == 2:
        return f"features: its second output, {width} an image; the first is left out"
    shape = f", the mean over {outputs.shape[2]} x {outputs.shape[3]} positions" if _is_map(outputs) else ""
    return f"features: what it returns, {width} an image{shape}"


def _is_map(outputs: Any) -> bool:
    return isinstance(outputs, Tensor) and outputs.ndim == 4 and outputs.shape[2:] != torch.Size([1, 1])
