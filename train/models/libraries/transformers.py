"""A transformers directory: ``config.json``, weights and ``preprocessor_config.json``, by AutoModelForImageClassification."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from runtime.manifest import Resampler
from train.descriptions import transformers as described
from train.descriptions.description import Description
from train.exceptions import ModelError
from train.models.libraries.built import Built, Transform, said
from train.models.libraries.installed import require
from train.models.outputs import Logits
from train.weights import strangers

_PROCESSORS = ("preprocessor_config.json", "processor_config.json")


def from_directory(path: Path, *, trust: bool = False) -> Built:
    """Read a directory, never the net; code that is in it runs only with `trust`.

    Raises:
        ModelError: transformers is not installed, or the directory is not that of a classifier of images.
    """
    transformers = require("transformers", f"{path}: a model of transformers")
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    architecture = next(iter(config.get("architectures") or ()), "")
    if architecture and "ImageClassification" not in architecture:
        raise ModelError(
            f"{path}: config.json says {architecture}, which has no classes; expected one ForImageClassification"
        )
    if config.get("auto_map") and not trust:
        raise ModelError(
            f"{path}: its model is code in the directory ({next(iter(config['auto_map'].values()))}), which --trust would "
            "run with all your rights: only where you trust its author"
        )
    description, remarks, transform = _described(transformers, path, config)
    module = _loaded(transformers, path, architecture, trust)
    count = getattr(module.config, "num_channels", 3)
    if count == 1:
        description = Description(channels="grey").over(description)
    return Built(
        Logits(module),
        str(config.get("model_type", architecture)),
        description,
        remarks,
        transform,
        headed=True,
    )


def config_of(network: Logits) -> dict[str, Any]:
    """What builds a network of :func:`from_directory` again."""
    module: Any = network.network
    return {"architectures": [type(module).__name__], **module.config.to_diff_dict()}


def again(config: dict[str, Any], who: str) -> nn.Module:
    """The network of a configuration, as :func:`from_directory` keeps it, without its weights.

    Raises:
        ModelError: transformers is not installed, or builds no such network.
    """
    transformers = require("transformers", who)
    settings = {name: value for name, value in config.items() if name not in ("architectures", "model_type")}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = transformers.AutoConfig.for_model(config["model_type"], **settings)
            made._attn_implementation = "eager"
            family = getattr(transformers, config["architectures"][0])
            return Logits(family._from_config(made, dtype=torch.float32))
    except Exception as error:  # any of many
        raise ModelError(f"{who}: transformers can't build it again: {said(error)}") from error


def _described(
    transformers: ModuleType, path: Path, config: dict[str, Any]
) -> tuple[Description, tuple[str, ...], Transform | None]:
    description = described.of_config(config)
    found = _with_processor(path)
    if found is None:
        return description, ("there is no preprocessor_config.json in the directory",), None
    processor, resampler, transform = _processor(transformers, found)
    remarks = () if found == path else (f"preprocessor_config.json is that of {found}, where the training began",)
    try:
        return description.over(described.of_processor(processor, resampler)), remarks, transform
    except ModelError as error:  # the options may say it
        return description, (str(error),), None


def _with_processor(path: Path) -> Path | None:
    """The directory of the image processor: this one, or the one above a Trainer's ``checkpoint-500``."""
    above = [path.resolve().parent] if path.resolve().name.startswith("checkpoint-") else []
    return next((each for each in (path, *above) for name in _PROCESSORS if (each / name).is_file()), None)


def _processor(transformers: ModuleType, path: Path) -> tuple[dict[str, Any], Resampler, Transform | None]:
    """The settings of the image processor, with its class's own values for those that the file leaves out.

    And by what it resizes: torchvision where that is installed, and Pillow where it is not, as transformers itself chooses;
    and the processor itself, if it can be loaded.
    """
    file = next(path / name for name in _PROCESSORS if (path / name).is_file())
    settings = json.loads(file.read_text(encoding="utf-8"))
    settings = settings.get("image_processor", settings)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = transformers.AutoImageProcessor.from_pretrained(path, local_files_only=True)
        complete = loaded.to_dict()
    except Exception:  # an unknown class, or a library that it needs: the file itself says most
        return dict(settings), "torch", None
    kind = settings.get("image_processor_type") or settings.get("feature_extractor_type")
    resampler: Resampler = "pillow" if getattr(loaded, "backend", "torchvision") == "pil" else "torch"
    complete |= {"image_processor_type": kind} if kind else {}
    return complete, resampler, _running(loaded) if callable(loaded) else None


def _running(processor: Any) -> Transform:
    return lambda image: processor(images=image, return_tensors="np")["pixel_values"][0]


def _reason(path: Path) -> str | None:
    """What is in a directory in place of weights, if that can be told."""
    for file in (*sorted(path.glob("*.safetensors")), *sorted(path.glob("*.bin"))):
        if known := strangers.of_file(file):
            return f"{file.name} is {known}"
    known = strangers.of_directory(path)
    return f"its weights are {known}" if known else None


def _loaded(transformers: ModuleType, path: Path, architecture: str, trust: bool) -> Any:
    """The network in float32, every weight of it from the directory."""
    family = getattr(transformers, architecture, None) or transformers.AutoModelForImageClassification
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module, found = family.from_pretrained(
                path,
                local_files_only=True,
                output_loading_info=True,
                attn_implementation="eager",
                dtype=torch.float32,
                **({"trust_remote_code": True} if trust else {}),
            )
    except Exception as error:  # any of many
        raise ModelError(f"{path}: transformers can't load it: {_reason(path) or said(error)}") from error
    finally:
        transformers.logging.set_verbosity(level)
        transformers.logging.enable_progress_bar()
    for what in ("missing_keys", "mismatched_keys"):
        if names := sorted(map(str, found.get(what) or ())):
            raise ModelError(
                f"{path}: {len(names)} weights of {type(module).__name__} are not in its files, such as {names[0]}: they "
                "would be random; was it saved with its head?"
            )
    return module
