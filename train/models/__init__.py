"""Networks whose forward pass returns ``(logits, penultimate)``; :data:`ARCHITECTURES` lists them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from train.exceptions import TrainingError
from train.models.resnet import resnet18, resnet20
from train.models.wide_resnet import wrn_40_2

ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "resnet20": resnet20,
    "resnet18": resnet18,
    "wrn-40-2": wrn_40_2,
}


def make(arch: str, num_classes: int, **options: Any) -> nn.Module:
    """Build a network of :data:`ARCHITECTURES`.

    Raises:
        TrainingError: for an unknown name; the message lists the known ones.
    """
    if arch not in ARCHITECTURES:
        raise TrainingError(f"unknown architecture {arch!r}; choose one of {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[arch](num_classes, **options)
