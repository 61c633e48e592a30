"""Networks whose forward pass returns ``(logits, penultimate)``.

An architecture is a name of :data:`ARCHITECTURES`, or a network of others, as :mod:`train.models.foreign` has them; either
may be followed by ``+nan`` for NAN's projection head, or ``+nan:WIDTH`` for one with a hidden layer of that
width. Our own list their convolutions in the order of the forward pass.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from train.exceptions import TrainingError
from train.models import foreign
from train.models.airbench import Whitening, airbench, airbench_half
from train.models.densenet import densenet_bc_100
from train.models.foreign import Origin, Size, Start
from train.models.libraries import named
from train.models.projection import WithProjection
from train.models.resnet import resnet18, resnet20
from train.models.wide_resnet import wrn_40_2

__all__ = ["ARCHITECTURES", "CHOICES", "Origin", "Start", "fit", "is_foreign", "make", "set_dropout", "split", "start"]

ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "resnet20": resnet20,
    "resnet18": resnet18,
    "wrn-40-2": wrn_40_2,
    "densenet-bc-100": densenet_bc_100,
    "airbench": airbench,
    "airbench-half": airbench_half,
}

_PROJECTION = "+nan"
_SUFFIX = re.compile(r"^(.*?)(\+nan(?::([1-9][0-9]*))?)?$", re.DOTALL)

CHOICES = (
    f"{', '.join(ARCHITECTURES)}, {named.CHOICES}; with {_PROJECTION} at its end, with NAN's head, or "
    f"{_PROJECTION}:WIDTH for the width of its hidden layer"
)


def make(arch: str, num_classes: int, network: Start | Origin | None = None, **options: Any) -> nn.Module:
    """Build a network, such as ``resnet20``, ``resnet20+nan``, ``resnet20+nan:1024`` or ``timm:resnet50``.

    Args:
        arch: which.
        num_classes: K; 0 for a model without classes, whose projection head ends in its embedding.
        network: of a network of others, itself as a run starts from it, or what it was built by before. One that has
            neither is built with the weights that it is initialised with.
        options: what a network of :data:`ARCHITECTURES` takes beside K.

    Raises:
        TrainingError: for an unknown name; the message lists the known ones.
        ModelError: a network of others that can't be built.
    """
    name, projected, width = split(arch)
    if num_classes == 0 and not projected:
        raise TrainingError(f"{arch}: without classes a network has a projection head; take --arch {arch}{_PROJECTION}")
    if is_foreign(arch):
        network = network or foreign.start(name, None, None)
        classes = num_classes or 1
        model: nn.Module = (
            foreign.rebuild(name, network, classes) if isinstance(network, Origin) else network.replaced(classes)
        )
    elif name in ARCHITECTURES:
        model = ARCHITECTURES[name](num_classes or 1, **options)
    else:
        raise TrainingError(f"unknown architecture {arch!r}; choose one of {CHOICES}")
    return WithProjection(model, width=width, classes=num_classes) if projected else model


def split(arch: str) -> tuple[str, bool, int | None]:
    """A network's name, whether it has NAN's projection head, and how wide the hidden layer of that is to be."""
    found = _SUFFIX.match(arch)
    name, suffix, width = found.groups() if found else (arch, None, None)
    return name, suffix is not None, int(width) if width else None


def is_foreign(arch: str) -> bool:
    """Whether a network is of others: ``LIBRARY:NAME``, ``package.module:factory`` or ``file.py:factory``."""
    name = split(arch)[0]
    return ":" in name and _PROJECTION not in name  # which stands there where its width is none


def start(
    arch: str, init: str | None, key: str | None, size: Size | None = None, untrained: Size | None = None
) -> Start:
    """As :func:`train.models.foreign.start`, of an architecture with or without a projection head."""
    return foreign.start(split(arch)[0], init, key, size, untrained)


def fit(model: nn.Module, draw: Callable[[], Tensor]) -> None:
    """Give a new network what it takes from training images: the components of its whitening.

    Args:
        model: any network; most take nothing.
        draw: makes the images, normalised, (N, 3, H, W), where they are needed.
    """
    for module in model.modules():
        if isinstance(module, Whitening):
            module.fit(draw())


def set_dropout(model: nn.Module, share: float) -> None:
    """Let every dropout layer drop this share.

    Raises:
        TrainingError: there is none.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    if not layers:
        raise TrainingError("--dropout: the network has no dropout layer; leave it out, or take --arch wrn-40-2")
    for layer in layers:
        layer.p = share
