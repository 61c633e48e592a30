"""``torchvision:NAME[:WEIGHTS]``, and the checkpoints of torchvision's references."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from typing import Any

from torch import nn

from train.descriptions import torchvision as described
from train.descriptions.description import Description
from train.exceptions import ModelError
from train.models.libraries.built import FILE_OPTION, Built, Transform, classes_of, said
from train.models.libraries.installed import announce_download, require
from train.weights import fitting
from train.weights.files import Weights
from train.weights.fitting import Choice


def build(target: str, weights: Weights | None, choice: Choice, option: str = "--model") -> Built:
    """A network of torchvision, with the weights of a file or its own.

    Args:
        target: ``NAME`` or ``NAME:WEIGHTS``, such as ``resnet50:IMAGENET1K_V2``. Their own weights come from torchvision's
            cache, or the net.
        weights: of a file, in place of its own.

    Raises:
        ModelError: torchvision is not installed, has no such network or weights, or those of the file don't fit.
    """
    who = f"{option} torchvision:{target}"
    models, builder, chosen = _named(target, who)
    description = _of_release(chosen) if chosen is not None else Description(colour="ignore")
    if weights is None:
        if chosen is None:
            raise ModelError(
                f"{who}: which weights? {FILE_OPTION[option]} FILE, or torchvision:{target}:WEIGHTS, of "
                f"{', '.join(_releases(models, target))}"
            )
        announce_download(f"torchvision's {builder.__name__}:{chosen.name}")
        module = _called(who, builder, weights=chosen)
        return Built(
            module,
            f"torchvision {builder.__name__}",
            description,
            transform=_transform(chosen),
            headed=True,
            config=_config(module),
        )
    options = _options(builder, weights, chosen is not None)
    module = _called(who, builder, weights=None, **options)
    found = [*fitting.load(module, weights, choice), *_input_transformed(builder.__name__, options)]
    if chosen is not None and options.get("num_classes") not in (None, len(description.labels or ())):
        description = _input_of(chosen)  # the labels are others
    return Built(
        module,
        f"torchvision {builder.__name__}",
        description,
        tuple(found),
        _transform(chosen),
        headed=True,
        config=_config(module),
    )


def untrained(target: str, option: str, **arguments: Any) -> Built:
    """The same with the weights that it is initialised with; those that are named say only what its input is.

    Args:
        target, option: as :func:`build` takes them.
        arguments: of torchvision's builder.

    Raises:
        ModelError: torchvision is not installed, or has no such network.
    """
    who = f"{option} torchvision:{target}"
    _, builder, chosen = _named(target, who)
    module = _called(who, builder, weights=None, **arguments)
    description = _input_of(chosen) if chosen is not None else Description(colour="ignore")
    return Built(module, f"torchvision {builder.__name__}", description, headed=True, config=_config(module))


def auxiliary(target: str, option: str, file: Weights | None) -> dict[str, Any]:
    """What the builder of a network with auxiliary heads has to know of a file; nothing for others."""
    _, builder, chosen = _named(target, f"{option} torchvision:{target}")
    if file is None:
        return {}
    options = _options(builder, file, chosen is not None)
    return {name: value for name, value in options.items() if name in ("aux_logits", "transform_input")}


def _named(target: str, who: str) -> tuple[Any, Any, Any]:
    """torchvision.models, the network's builder, and the weights that are named, if any are."""
    name, _, released = target.partition(":")
    models = require("torchvision", who).models
    try:
        builder = models.get_model_builder(name)
        return models, builder, models.get_model_weights(builder)[released] if released else None
    except (ValueError, KeyError, AttributeError) as error:
        raise ModelError(f"{who}: {_unknown(models, name, released)}") from error


def _config(module: nn.Module) -> dict[str, Any]:
    """What its builder chooses by the weights that are asked for, of networks that have such a choice."""
    return {name: getattr(module, name) for name in ("aux_logits", "transform_input") if hasattr(module, name)}


def from_reference(weights: Weights, choice: Choice) -> Built | None:
    """The network of a checkpoint that torchvision's references/classification/train.py wrote; None for another."""
    name = weights.settings.get("model")
    if (
        not isinstance(name, str)
        or "val_crop_size" not in weights.settings
        or not {"model", "epoch"} <= set(weights.keys)
    ):
        return None
    built = build(name, weights, choice)
    description = described.of_reference_arguments(weights.settings)
    remark = (
        f"the file says that it is torchvision's {name}; normalised by ImageNet's mean and std, as its references do"
    )
    return Built(built.module, built.arch, description.over(built.description), (remark, *built.remarks), headed=True)


def _transform(release: Any) -> Transform | None:
    transform = release.transforms() if release is not None else None
    return transform if callable(transform) else None


def _of_release(release: Any) -> Description:
    return _input_of(release).over(described.of_meta(release.meta))


def _input_of(release: Any) -> Description:
    return described.of_preset(vars(release.transforms()))


def _options(builder: Any, weights: Weights, released: bool) -> dict[str, Any]:
    """What the builder has to know of the weights before they are loaded."""
    options: dict[str, Any] = {}
    if count := classes_of(weights):
        options["num_classes"] = count
    if builder.__name__ in ("inception_v3", "googlenet"):
        names = [key for state in weights.entries.values() for key in state]
        options["aux_logits"] = any("AuxLogits." in key or "aux1." in key for key in names)
        options["transform_input"] = released
        options["init_weights"] = False
    elif "init_weights" in inspect.signature(builder).parameters:
        options["init_weights"] = False
    return options


def _input_transformed(name: str, options: Mapping[str, Any]) -> tuple[str, ...]:
    if "transform_input" not in options or options["transform_input"]:
        return ()
    return (
        f"transform_input is off, as torchvision builds {name} without weights of its own; if these were tuned from them, "
        f"say torchvision:{name}:IMAGENET1K_V1",
    )


def _called(who: str, builder: Any, **options: Any) -> nn.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of how it will be initialised one day
            module = builder(**options)
    except OSError as error:
        raise ModelError(
            f"{who}: its weights can't be downloaded ({said(error)}); fetch them where there is a net, and give "
            f"{FILE_OPTION[who.partition(' ')[0]]} FILE"
        ) from error
    except Exception as error:  # a builder may raise anything
        raise ModelError(f"{who}: {said(error)}") from error
    if not isinstance(module, nn.Module):
        raise ModelError(f"{who}: made {type(module).__name__}, no network")
    return module


def _releases(models: Any, name: str) -> list[str]:
    return [release.name for release in models.get_model_weights(name)]


def _unknown(models: Any, name: str, released: str) -> str:
    if name not in models.list_models():
        near = [other for other in models.list_models(module=models) if name[:6] in other][:6]
        return f"torchvision has no model {name!r}" + (f"; there are {', '.join(near)}" if near else "")
    return f"no weights {released!r}; there are {', '.join(_releases(models, name)) or 'none'}"
