"""Networks of others by name, as a run starts from them, and as a checkpoint builds them again."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any, cast

from torch import nn

from train.exceptions import ModelError
from train.models import factory
from train.models.libraries import reads, timm, torchvision, transformers
from train.models.libraries.built import Built
from train.models.outputs import Logits
from train.weights.files import Weights
from train.weights.fitting import PLAIN

OPTION = "--arch"
CHOICES = "timm:NAME, torchvision:NAME[:WEIGHTS], hf:DIRECTORY, package.module:factory, file.py:factory"


def build(arch: str, file: Weights | None, *, pretrained: bool) -> Built:
    """A network, with weights of its own where it has some and no file gives others.

    Args:
        arch: one of :data:`CHOICES`.
        file: whose weights it will be given.
        pretrained: whether the weights of a library are wanted that has networks without.

    Raises:
        ModelError: it can't be built.
    """
    library, _, name = arch.partition(":")
    if library == "timm":
        built = timm.build(name, None, PLAIN, OPTION) if pretrained else timm.untrained(name, OPTION)
        return _named(built, f"timm's {name}" if pretrained else None)
    if library == "torchvision":
        return _of_torchvision(name, file, pretrained=pretrained)
    if library in ("hf", "transformers"):
        _check_not_pretrained(arch, pretrained=pretrained)
        built = transformers.from_directory(Path(name))
        config = transformers.config_of(cast(Logits, built.module))
        return dataclasses.replace(built, pretrained=f"the directory {name}", config=config)
    _check_not_pretrained(arch, pretrained=pretrained)
    return _of_factory(arch)


def again(arch: str, file: str, config: dict[str, Any]) -> nn.Module:
    """The same network without weights: nothing is downloaded, and what a factory would read is not.

    Args:
        arch: as :func:`build` took it.
        file, config: of what that made.

    Raises:
        ModelError: its library or factory is not there.
    """
    library, _, name = arch.partition(":")
    if library == "timm":
        return timm.untrained(name, OPTION, **config).module
    if library == "torchvision":
        return torchvision.untrained(name, OPTION, **config).module
    if library in ("hf", "transformers"):
        return transformers.again(config, f"{OPTION} {arch}")
    return _without_weights(arch, file)


def _of_torchvision(name: str, file: Weights | None, *, pretrained: bool) -> Built:
    own = pretrained or (":" in name and file is None)
    if own:
        built = torchvision.build(name if ":" in name else f"{name}:DEFAULT", None, PLAIN, OPTION)
        return _named(built, f"torchvision's {name if ':' in name else f'{name}:DEFAULT'}")
    return torchvision.untrained(name, OPTION, **torchvision.auxiliary(name, OPTION, file))


def _of_factory(arch: str) -> Built:
    with reads.watched() as read:
        module = _own(factory.build(arch, option=OPTION))
    directory = getattr(module, "name_or_path", "")  # of transformers, which reads in ways of its own
    found = [Path(file).name for file in read or [directory] if isinstance(file, str) and file]
    pretrained = f"{arch}, which read {', '.join(dict.fromkeys(found))}" if found else None
    return Built(module, arch, timm.said_of(module), pretrained=pretrained, file=factory.file_of(arch))


def _without_weights(arch: str, file: str) -> nn.Module:
    """What a factory builds where files of weights are not read, or, where it can't do without, are."""
    for _ in range(2):  # a library that the first imports is known to the second
        try:
            with reads.skipped():
                return _own(factory.build(arch, file, OPTION, typed=False))
        except ModelError:
            continue
    return _own(factory.build(arch, file, OPTION, typed=False))


def _own(module: nn.Module) -> nn.Module:
    """A copy, as it may be one that the factory keeps; itself where it can't be copied, as torch's old weight_norm can't."""
    try:
        return copy.deepcopy(module)
    except (RuntimeError, TypeError):
        return module


def _check_not_pretrained(arch: str, *, pretrained: bool) -> None:
    if pretrained:
        raise ModelError(
            f"--init pretrained goes with timm:NAME and torchvision:NAME; {arch} has its own weights, if any"
        )


def _named(built: Built, pretrained: str | None) -> Built:
    return dataclasses.replace(built, pretrained=pretrained)
