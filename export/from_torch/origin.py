"""What a checkpoint is, by looking into it, and the classifier of it."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from export.checks.agreement import check_agreement
from export.exceptions import ExportError, as_export_errors
from export.from_torch import scripted
from export.from_torch.checkpoint import from_checkpoint
from export.from_torch.classifier import TorchClassifier, of_module
from train.checkpoint import KEY
from train.descriptions.description import Description, needs
from train.models import factory
from train.models.libraries import timm, torchvision, transformers
from train.models.libraries.built import Built, said
from train.weights import files as weights
from train.weights import fitting, strangers
from train.weights.files import Weights
from train.weights.fitting import PLAIN, Choice

Kind = Literal["ours", "transformers", "timm", "script", "program", "weights"]

_TRUST = (
    "a pickle can run any code with your rights as it is read; --trust reads it all the same, where you trust its author as "
    "you trust a program that you run"
)

# What a user says of the input in place of the model's own files.
_OF_INPUT = (
    "size", "mean", "std", "resize", "resize_to", "crop_fraction", "interpolation", "resampler", "colour", "channels",
)  # fmt: skip
_ADVICE = "say what it should be by --size, --resize-to, --interpolation, --mean and --std"


@dataclass(frozen=True)
class Request:
    """What a user asks for.

    Attributes:
        checkpoint: a file or a directory.
        model: how to build the network, where the checkpoint does not say it.
        choice: which of the checkpoint's weights.
        trust: whether code that is in the checkpoint may run.
        penultimate: which activations count as such, where a checkpoint of ours leaves a choice.
    """

    checkpoint: Path | None
    model: str | None = None
    choice: Choice = PLAIN
    trust: bool = False
    penultimate: str | None = None


@as_export_errors()
def read(request: Request, given: Description) -> TorchClassifier:
    """The classifier of a checkpoint, of a model, or of both.

    Args:
        request: where it is.
        given: what the user says of it, which is true whatever its files say.

    Raises:
        ExportError: it is none, or something about it is missing; the message says what.
    """
    if request.model is None and request.checkpoint is not None and kind(request.checkpoint) == "ours":
        if said_of := sorted(name for name, value in vars(given).items() if value and name != "remarks"):
            raise ExportError(
                f"--{said_of[0].replace('_', '-')} goes with --model; a checkpoint of ours says it itself"
            )
        return from_checkpoint(request.checkpoint, request.penultimate)
    if request.penultimate is not None:
        raise ExportError(
            f"--penultimate {request.penultimate} goes with an ONNX file, or with a checkpoint of ours; what this model's "
            "last layer reads is found, or returned by it beside the logits"
        )
    built = _with_model(request) if request.model is not None else _without_model(request)
    description = given.over(built.description)
    remarks = (*built.remarks, *description.lines)
    if built.headed is False and description.task != "unlabelled":
        raise ExportError(
            f"{built.arch}: num_classes is 0: it has no head, so no classes; --task unlabelled makes a gate of its features"
        )
    if missing := description.missing():
        who = "--model" if request.model is not None else str(request.checkpoint)
        raise ExportError("; ".join((needs(missing, who), *remarks)))
    described = dataclasses.replace(description, naming=(), remarks=remarks)
    classifier = of_module(built.module, built.arch, described, headed=built.headed)
    if built.transform is None or any(getattr(given, name) for name in _OF_INPUT):
        return classifier
    worst = check_agreement(built.transform, classifier.input, f"{built.arch}'s own transform", _ADVICE)
    remark = f"its own transform, run on drawn images, and the bundle differ by {worst:.2g} of 255 grey levels at most"
    return dataclasses.replace(classifier, remarks=(*classifier.remarks, remark))


def kind(path: Path) -> Kind:
    """What a file or directory holds, by its contents.

    Raises:
        ExportError: there is none.
    """
    if path.is_dir():
        return _kind_of_directory(path)
    if not path.is_file():
        raise ExportError(strangers.of_missing(path))
    if zipfile.is_zipfile(path):
        return _kind_of_archive(path)
    try:
        with safe_open(path, framework="pt") as file:
            return "ours" if KEY in (file.metadata() or {}) else "weights"
    except (SafetensorError, OSError):
        return "weights"


def _kind_of_directory(path: Path) -> Kind:
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except OSError:
        config = None
    except ValueError as error:
        raise ExportError(f"{path}: config.json is not JSON ({error})") from error
    if isinstance(config, dict):
        if "architecture" in config:
            return "timm"
        if "model_type" in config or "architectures" in config:
            return "transformers"
        raise ExportError(f"{path}: config.json names no architecture, neither transformers' nor timm's")
    known = strangers.of_directory(path)
    raise ExportError(
        f"{path}: a directory without config.json, so not a model of transformers or timm; "
        + (f"it is {known}" if known else "give the file in it, or --model to say how to build the network")
    )


def _kind_of_archive(path: Path) -> Kind:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        return "script"
    if any(
        "serialized_exported_program" in name or (name.startswith("models/") and name.endswith(".json"))
        for name in (*names, *inner)
    ):
        return "program"
    if known := strangers.of_archive(names):
        raise ExportError(f"{path}: it is {known}")
    return "weights"


def _with_model(request: Request) -> Built:
    """By a library's name, or a factory."""
    target = request.model or ""
    file = weights.read(request.checkpoint) if request.checkpoint else None
    library, _, name = target.partition(":")
    if library == "timm":
        return timm.build(name, file, request.choice)
    if library == "torchvision":
        return torchvision.build(name, file, request.choice)
    if library in ("transformers", "hf"):
        raise ExportError(
            f"--model {target}: a model of transformers is a directory: --checkpoint DIR, without --model"
        )
    module = factory.build(target)
    if file is None:
        return Built(module, target, Description(), (f"weights as {target} makes them: no --checkpoint was given",))
    return Built(module, target, Description(), fitting.load(module, file, request.choice))


def _without_model(request: Request) -> Built:
    """By what the checkpoint says itself."""
    path = request.checkpoint
    if path is None:
        raise ExportError("what to export? --checkpoint FILE or DIRECTORY, --model HOW-TO-BUILD-IT, or both")
    path = _directory_of(path)
    readers: dict[Kind, Callable[[], Built]] = {
        "transformers": lambda: transformers.from_directory(path, trust=request.trust),
        "timm": lambda: timm.from_directory(path, request.choice),
        "script": lambda: Built(scripted.from_script(path), path.name, Description()),
        "program": lambda: _program(path),
    }
    found = kind(path)
    return readers[found]() if found in readers else _from_weights(weights.read(path), request)


def _program(path: Path) -> Built:
    module, size = scripted.from_program(path)
    return Built(module, path.name, Description(size=size))


def _directory_of(path: Path) -> Path:
    """The directory of a weights file beside its config.json; otherwise the path itself."""
    beside = path.parent / "config.json"
    is_part = path.name in ("model.safetensors", "pytorch_model.bin") or path.name == "config.json"
    return path.parent if path.is_file() and is_part and beside.is_file() else path


def _from_weights(file: Weights, request: Request) -> Built:
    """A training script's checkpoint with its arguments, or a whole model."""
    for reader in (timm.from_training, torchvision.from_reference):
        if built := reader(file, request.choice):
            return built
    if file.pickled and request.trust:
        return Built(
            _whole_model(file.path),
            file.pickled,
            Description(),
            (f"{file.path.name}: a pickled {file.pickled}, run because of --trust",),
        )
    if file.pickled:
        raise ExportError(
            f"{file.path}: a whole model, pickled, {file.pickled}: --model tells how to build it, and its weights are read "
            f"without running it. Or: {_TRUST}"
        )
    raise ExportError(
        f"{file.path}: not one of ours: --model tells how to build it, such as --model torchvision:resnet50, timm:NAME or "
        f"file.py:function; {fitting.describe(file)}"
    )


def _whole_model(path: Path) -> nn.Module:
    """Unpickle a model, with all that this may run."""
    with factory.theirs(Path.cwd()):
        try:
            loaded: Any = torch.load(path, map_location="cpu", weights_only=False)
        except Exception as error:  # a foreign class may raise anything
            raise ExportError(
                f"{path}: can't be unpickled here: {said(error)}; --model FILE.py:CLASS builds it, and takes its weights"
            ) from error
    if isinstance(loaded, dict):
        loaded = next((value for value in loaded.values() if isinstance(value, nn.Module)), loaded)
    if not isinstance(loaded, nn.Module):
        raise ExportError(f"{path}: expected a torch.nn.Module, found {type(loaded).__name__}")
    return loaded
