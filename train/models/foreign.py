"""Networks of others: of timm, torchvision or transformers, or of any factory, with a last layer for the data's labels.

A network is built twice in its life: when a run starts, with weights, and from a checkpoint, which has weights of its own:
then nothing is downloaded, and no file of weights is read.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from train.exceptions import ModelError
from train.models import head
from train.models.libraries import named, timm
from train.models.libraries.built import Built
from train.weights import files, fitting
from train.weights.files import Weights
from train.weights.fitting import Choice

Size = tuple[int, int]

PRETRAINED = "pretrained"

_USUAL = (224, 224)
_TOLERANCE = 1e-3  # relative to the largest logit


@dataclass(frozen=True)
class Origin:
    """What builds the network of a checkpoint again, beside its architecture's name.

    Attributes:
        head: the layer that was replaced.
        file: where the factory was, a Python file.
        config: of transformers, or what a builder of torchvision has to know.
    """

    head: str
    file: str = ""
    config: dict[str, Any] = field(default_factory=dict)


class Foreign(nn.Module):
    """A network whose last layer is `fc`, a linear one.

    Args:
        network: returns logits, alone, first or by that name.
        layer: the name of its last layer, which is dropped.
        num_classes: K.
    """

    def __init__(self, network: nn.Module, layer: str, num_classes: int) -> None:
        super().__init__()
        last = network.get_submodule(layer)
        inputs, _ = head.width_of(last)  # type: ignore[arg-type]
        head.replace(network, last, nn.Identity())
        self.network = network
        self.fc = nn.Linear(inputs, num_classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, 3, H, W), normalised -> logits (B, K), penultimate (B, D)."""
        penultimate = head.rows(self.network(x))
        return self.fc(penultimate), penultimate


@dataclass(frozen=True)
class Start:
    """A network of others as a run starts from it.

    Attributes:
        network: returns (logits, penultimate), with its own last layer, `fc`.
        classes: how many it had.
        built: what is known of it.
    """

    network: Foreign
    origin: Origin
    classes: int
    built: Built

    def replaced(self, num_classes: int) -> Foreign:
        """The network with a new last layer, this very one."""
        self.network.fc = nn.Linear(self.network.fc.in_features, num_classes)
        return self.network

    def told(self, num_classes: int, *, projected: bool = False) -> tuple[str, ...]:
        """Which weights it has, and what became of its last layer: another one, or NAN's projection head."""
        inputs = self.network.fc.in_features
        instead = "NAN's projection head" if projected else f"one {inputs} -> {num_classes}"
        weights = self.built.pretrained or "random, as it is initialised: no --init, and nothing was read"
        return (
            f"weights: {weights}",
            *self.built.remarks,
            f"last layer: {self.origin.head}, {inputs} -> {self.classes}, replaced by {instead}"
            + (" for the labels of the data" if num_classes else ""),
        )


def start(
    arch: str, init: str | None, key: str | None, size: Size | None = None, untrained: Size | None = None
) -> Start:
    """Build a network of others, give it the weights to start from, and find its last layer.

    Args:
        arch: one of :data:`train.models.libraries.named.CHOICES`.
        init: a file of weights, ``pretrained`` for those of timm or torchvision, or None for what it is built with.
        key: of the file's entries or prefixes this one.
        size: height and width of the images that it will take; None for what its library says, or 224.
        untrained: the same of a network that has no weights yet, where `size` is None.

    Raises:
        ModelError: it can't be built, its weights don't fit, it fails on such images, its last layer can't be replaced, or
            a checkpoint could not build it again.
    """
    file = files.read(Path(init)) if init and init != PRETRAINED else None
    built = named.build(arch, file, pretrained=init == PRETRAINED)
    size = size or (None if file or built.pretrained else untrained) or built.description.size or _USUAL
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    try:
        module = built.module.float().eval()
        name = head.find(module, images)
        if file:
            built = _given(built, file, Choice(key=key), name)
        started = _checked(arch, built, name, images)
    except ModelError as error:
        raise ModelError(f"{arch}: {error}") from error
    except (RuntimeError, TypeError, AttributeError, LookupError) as error:  # a foreign network may raise anything
        raise ModelError(f"{arch}: fails without its last layer, or when it is built again: {error}") from error
    return started


def _given(built: Built, file: Weights, choice: Choice, name: str) -> Built:
    """The network with a file's weights, those of its last layer excepted."""
    free = frozenset(key for key in built.module.state_dict() if key.startswith(f"{name}."))
    remarks = fitting.load(built.module, timm.adapted(built.module, file), choice, free, "--key NAME")
    return dataclasses.replace(built, remarks=(*built.remarks, *remarks), pretrained=file.path.name)


@torch.no_grad()
def _checked(arch: str, built: Built, name: str, images: Tensor) -> Start:
    """Without its last layer it must return what that reads, and a checkpoint must be able to build it again."""
    module = built.module
    expected = head.rows(module(images))
    again = named.again(arch, built.file, built.config).float().eval()
    try:
        again.load_state_dict(module.state_dict())
        _check_same(head.rows(again(images)), expected)
    except (RuntimeError, ValueError) as error:
        raise ModelError(
            "built a second time it is another network, so that no checkpoint could build it: it must depend on nothing but "
            f"its arguments ({' '.join(str(error).split())[:200]})"
        ) from error
    network = _with_own_head(module, name).eval()
    try:
        _check_same(network(images)[0], expected)
    except ValueError as error:
        raise ModelError(
            f"it does something behind or around its last layer {name} which is lost without that; let a factory return a "
            f"network whose forward ends in one nn.Linear ({error})"
        ) from error
    return Start(network, Origin(name, built.file, built.config), network.fc.out_features, built)


def _check_same(found: Tensor, expected: Tensor) -> None:
    """Raises ValueError where logits differ by more than rounding."""
    difference = float((found - expected).abs().max())
    if not difference <= _TOLERANCE * max(float(expected.abs().max()), 1e-3):
        raise ValueError(f"its logits differ by {difference:.2g}")


def _with_own_head(module: nn.Module, name: str) -> Foreign:
    last: Any = module.get_submodule(name)
    weight, bias, outputs = last.weight, last.bias, head.width_of(last)[1]
    network = Foreign(module, name, outputs)
    network.fc.weight.copy_(weight.reshape(outputs, -1))
    network.fc.bias.copy_(bias if bias is not None else torch.zeros(outputs))
    return network


def rebuild(arch: str, origin: Origin, num_classes: int) -> nn.Module:
    """The network of a checkpoint, its weights not loaded yet.

    Raises:
        ModelError: the library or factory is not there, or builds another network.
    """
    module = named.again(arch, origin.file, origin.config)
    try:
        return Foreign(module.float(), origin.head, num_classes)
    except (AttributeError, TypeError) as error:
        raise ModelError(
            f"{arch}: the network that it builds now has no layer {origin.head}, which was its last as it was trained"
        ) from error
