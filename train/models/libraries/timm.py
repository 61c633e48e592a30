"""``timm:NAME``, timm's hub directories, and the checkpoints of its train.py."""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from train.descriptions import timm as described
from train.descriptions.description import Description, named
from train.exceptions import ModelError
from train.models.libraries.built import Built, Transform, classes_of, said
from train.models.libraries.installed import announce_download, require
from train.weights import files as weights
from train.weights import fitting
from train.weights.files import State, Weights
from train.weights.fitting import Choice


def build(name: str, file: Weights | None, choice: Choice, option: str = "--model") -> Built:
    """A network of timm by its name, with the weights of a file or, from its cache or the net, its own.

    Raises:
        ModelError: timm is not installed, has no such network, or the file's weights don't fit.
    """
    timm = require("timm", f"{option} timm:{name}")
    if file is None:
        announce_download(f"timm's {name}")
        module = _created(timm, name, pretrained=True)
        config = _data_config(timm, module)
        description = _labelled(timm, module, described.of_data_config(config), whole=True)
        return Built(module, f"timm {name}", description, transform=_transform(timm, config), headed=_headed(module))
    return _with_weights(timm, name, file, choice, {})


def untrained(name: str, option: str, **arguments: Any) -> Built:
    """The same with the weights that it is initialised with.

    Args:
        name, option: as :func:`build` takes them.
        arguments: of timm's builder.

    Raises:
        ModelError: timm is not installed, or has no such network.
    """
    timm = require("timm", f"{option} timm:{name}")
    module = _created(timm, name, pretrained=False, **arguments)
    return Built(
        module,
        f"timm {name}",
        described.of_data_config(_data_config(timm, module)),
        headed=_headed(module),
        config=arguments,
    )


def said_of(module: nn.Module) -> Description:
    """The input of a network that a factory had timm build; nothing of others."""
    timm = sys.modules.get("timm")
    if timm is None or not isinstance(getattr(module, "pretrained_cfg", None), dict):
        return Description()
    return described.of_data_config(_data_config(timm, module))


def adapted(module: nn.Module, file: Weights) -> Weights:
    """A file's weights under the names of a network of timm, where they are those of another release; others as they are."""
    return _fitted(module, file) if type(module).__module__.startswith("timm.") else file


def from_directory(path: Path, choice: Choice) -> Built:
    """A hub directory: ``config.json`` with the architecture, and its weights.

    Raises:
        ModelError: timm is not installed or does not know the architecture, or the weights don't fit.
    """
    timm = require("timm", f"{path}: a model of timm")
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    wrapped = config.get("model_type") == "timm_wrapper"  # transformers', whose other keys are no settings of timm
    settings = dict(config.get("pretrained_cfg") or ({} if wrapped else config))
    options = dict(config.get("model_args") or {})
    if (count := config.get("num_classes", settings.get("num_classes"))) is not None:
        options.setdefault("num_classes", count)
    name = str(config["architecture"])
    settings.pop("label_names", None)
    if settings:
        options["pretrained_cfg"] = {**settings, "architecture": name}
    module = _created(timm, name, **options)
    module, found = _loaded(timm, module, weights.read(path), choice)
    data = _data_config(timm, module, pretrained_cfg=settings)
    description = described.of_hub_config(config).over(described.of_data_config(data))
    labelled = _labelled(timm, module, description, whole=False)
    return Built(module, f"timm {name}", labelled, found, _transform(timm, data), _headed(module))


def from_training(file: Weights, choice: Choice) -> Built | None:
    """The network of a checkpoint that timm's train.py wrote, whose arguments are in it; None for another file."""
    name = file.settings.get("model")
    if not isinstance(name, str) or not {"arch", "state_dict"} <= set(file.keys):
        return None
    timm = require("timm", f"{file.path}: a checkpoint of timm's train.py")
    settings = {
        key: value for key, value in file.settings.items() if isinstance(value, str | int | float | list | tuple)
    }
    built = _with_weights(timm, name, file, choice, settings)
    return dataclasses.replace(built, remarks=(f"the file says that it is timm's {name}", *built.remarks))


def _with_weights(timm: ModuleType, name: str, file: Weights, choice: Choice, settings: Mapping[str, Any]) -> Built:
    options = {**_options(timm, name, file), **_arguments(file)}
    module, found = _loaded(timm, _created(timm, name, **options), file, choice)
    config = _data_config(timm, module, args=dict(settings))
    description = _labelled(timm, module, described.of_data_config(config), whole=False)
    return Built(module, f"timm {name}", description, found, _transform(timm, config), _headed(module))


def _loaded(timm: ModuleType, module: nn.Module, file: Weights, choice: Choice) -> tuple[nn.Module, tuple[str, ...]]:
    """The network with a file's weights, and remarks; with blocks fused for inference where the weights are of such.

    Raises:
        ModelError: they fit neither way.
    """
    try:
        return module, fitting.load(module, _fitted(module, file), choice)
    except ModelError as error:
        fuse = getattr(getattr(timm, "utils", None), "reparameterize_model", None)
        if fuse is None:
            raise
        fused = fuse(module)
        try:
            found = fitting.load(fused, _fitted(fused, file), choice)
        except ModelError:
            raise error from None
    return fused, (
        f"the weights are of {type(module).__name__} after timm's reparameterize_model: so is the network",
        *found,
    )


def _headed(module: nn.Module) -> bool:
    """Whether it was built with classes."""
    return getattr(module, "num_classes", None) != 0


def _arguments(file: Weights) -> dict[str, Any]:
    """What train.py gave the network's builder: ``--model-kwargs``, and ``--gp``; ``--img-size`` is the loader's."""
    given = file.settings.get("model_kwargs")
    arguments = dict(given) if isinstance(given, Mapping) else {}
    if isinstance(pooling := file.settings.get("gp"), str):
        arguments["global_pool"] = pooling
    return arguments


def _options(timm: ModuleType, name: str, file: Weights) -> dict[str, Any]:
    """The number of classes, by the layer that timm knows to be the head, and of channels."""
    settings = timm.get_pretrained_cfg(name)
    known = settings.to_dict() if settings is not None else {}
    options: dict[str, Any] = {}
    heads = known.get("classifier") or ()
    head = heads if isinstance(heads, str) else next(iter(heads), None)
    count = _rows(file, f"{head}.weight") if head else None
    options["num_classes"] = count or classes_of(file)
    first = known.get("first_conv")
    first = first if isinstance(first, str) else next(iter(first or ()), None)
    if first and (channels := _rows(file, f"{first}.weight", axis=1)) in (1, 4):
        options["in_chans"] = channels
    return options


def _rows(file: Weights, name: str, axis: int = 0) -> int | None:
    for state in file.entries.values():
        for key, value in state.items():
            if (key == name or key.endswith(f".{name}")) and value.ndim > axis:
                return int(value.shape[axis])
    return None


def _created(timm: ModuleType, name: str, **options: Any) -> nn.Module:
    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.ERROR)  # it tells of every one of its attempts
    try:
        module: nn.Module = timm.create_model(name, **options)
    except Exception as error:  # a builder may raise anything, a download too
        raise ModelError(f"timm can't build {name}: {said(error)}") from error
    finally:
        log.setLevel(level)
    return module


def _fitted(module: nn.Module, file: Weights) -> Weights:
    """The file's weights under timm's own names, where they are those of another release or of another library."""
    model_module = sys.modules[type(module).__module__]
    adapt = getattr(model_module, "checkpoint_filter_fn", None)
    if adapt is None:
        return file
    own = module.state_dict()
    entries: dict[str, State] = {}
    for name, state in file.entries.items():
        entries[name] = state
        if state.keys() != own.keys():
            try:
                adapted = adapt(dict(state), module)
            except Exception:
                continue
            if isinstance(adapted, dict) and adapted.keys() == own.keys():
                entries[name] = adapted
    return Weights(file.path, entries, file.settings, file.pickled, file.keys)


def _data_config(timm: ModuleType, module: nn.Module, **arguments: Any) -> dict[str, Any]:
    """The input by timm's own rules, of the model's configuration and of what overrides it."""
    settings = dict(getattr(module, "pretrained_cfg", None) or {})
    given = arguments.pop("args", {})
    config: dict[str, Any] = timm.data.resolve_data_config(
        given, pretrained_cfg=arguments.get("pretrained_cfg") or settings
    )
    count = _channels(module) or config["input_size"][0]
    return {**config, "input_size": (count, *config["input_size"][1:])}


def _transform(timm: ModuleType, config: Mapping[str, Any]) -> Transform | None:
    """timm's own, of what its loader gives it: for one channel images of mode L."""
    create = getattr(timm.data, "create_transform", None)
    if create is None:
        return None
    if config["input_size"][0] != 1:
        own: Transform = create(**config, is_training=False)
        return own
    known = described.of_data_config(config)
    grey: Transform = create(**{**config, "mean": known.mean, "std": known.std}, is_training=False)
    return lambda image: grey(image.convert("L"))


def _channels(module: nn.Module) -> int | None:
    convolution = next((layer for layer in module.modules() if isinstance(layer, nn.Conv2d)), None)
    return convolution.in_channels if convolution is not None else None


def _labelled(timm: ModuleType, module: nn.Module, description: Description, *, whole: bool) -> Description:
    """With ImageNet's labels, where the classes are as many and nothing else names them."""
    count = getattr(module, "num_classes", None)
    subset = timm.data.infer_imagenet_subset(module) if count else None
    if description.labels or not subset:
        return description
    assumed = "" if whole else f", assumed because there are {count} classes (--labels FILE gives others)"
    return description.over(named(timm.data.ImageNetInfo(subset).label_descriptions(), f"timm's {subset}{assumed}"))
