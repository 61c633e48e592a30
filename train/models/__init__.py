"""Networks whose forward pass returns ``(logits, penultimate)``.

An architecture is a name of :data:`ARCHITECTURES`, or ``timm:NAME`` for a network of the timm library; either may be
followed by ``+nan`` for NAN's projection head, or ``+nan:WIDTH`` for one with a hidden layer of that
width. Each lists its convolutions in the order of the forward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from train.exceptions import TrainingError
from train.models.densenet import densenet_bc_100
from train.models.projection import WithProjection
from train.models.resnet import resnet18, resnet20
from train.models.timm_model import TimmModel
from train.models.wide_resnet import wrn_40_2

ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "resnet20": resnet20,
    "resnet18": resnet18,
    "wrn-40-2": wrn_40_2,
    "densenet-bc-100": densenet_bc_100,
}

_TIMM, _PROJECTION = "timm:", "+nan"

CHOICES = (
    f"{', '.join(ARCHITECTURES)}, {_TIMM}NAME (any network of timm); with {_PROJECTION} at its end, with NAN's head, or "
    f"{_PROJECTION}:WIDTH for the width of its hidden layer"
)


def make(arch: str, num_classes: int, **options: Any) -> nn.Module:
    """Build a network, such as ``resnet20``, ``resnet20+nan``, ``resnet20+nan:1024`` or ``timm:resnet50``.

    Args:
        arch: which.
        num_classes: K; 0 for a model without classes, whose projection head ends in its embedding.
        options: what a network of :data:`ARCHITECTURES` takes beside K.

    Raises:
        TrainingError: for an unknown name; the message lists the known ones.
    """
    name, projected, width = arch.partition(_PROJECTION)
    if num_classes == 0 and not projected:
        raise TrainingError(f"{arch}: without classes a network has a projection head; take --arch {arch}{_PROJECTION}")
    if width and not (width[0] == ":" and width[1:].isdecimal() and int(width[1:])):
        raise TrainingError(f"unknown architecture {arch!r}; choose one of {CHOICES}")
    if name.startswith(_TIMM):
        model: nn.Module = TimmModel(name.removeprefix(_TIMM), num_classes or 1)
    elif name in ARCHITECTURES:
        model = ARCHITECTURES[name](num_classes or 1, **options)
    else:
        raise TrainingError(f"unknown architecture {arch!r}; choose one of {CHOICES}")
    if not projected:
        return model
    return WithProjection(model, width=int(width[1:]) if width else None, classes=num_classes)
