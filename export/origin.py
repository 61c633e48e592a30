"""Where a classifier comes from, and the wing that reads it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from export.classifier import Classifier
from export.exceptions import ExportError
from export.from_onnx.classifier import open_file, open_model
from export.from_onnx.file import check, is_onnx
from export.from_onnx.options import Tensors, classifier_of
from train.descriptions.description import Description


@dataclass(frozen=True)
class Place:
    """Where a classifier is, by the options of :func:`export.options.add_model_options`."""

    checkpoint: Path | None
    model: str | None = None
    ema: bool = False
    key: str | None = None
    trust: bool = False
    tensors: Tensors = Tensors()  # noqa: RUF009  frozen

    @classmethod
    def of(cls, args: argparse.Namespace) -> Place:
        """From a command's options."""
        return cls(args.checkpoint, args.model, args.ema, args.key, args.trust, Tensors.of(args))


def read(place: Place, given: Description) -> Classifier:
    """The classifier that is there.

    Raises:
        ExportError: there is none, or something about it is missing, or said that it can't have.
        ModuleNotFoundError: torch is not installed.
    """
    _check_given(given)
    file = place.checkpoint if place.model is None and place.checkpoint and is_onnx(place.checkpoint) else None
    of_torch = {"ema": place.ema, "key": place.key, "trust": place.trust}
    of_onnx = {"output": place.tensors.output, "layout": place.tensors.layout}
    for option, value in (of_torch if file else of_onnx).items():
        if value:
            wanted = "a checkpoint of torch, not with an ONNX file" if file else "an ONNX file, --checkpoint model.onnx"
            raise ExportError(f"--{option} goes with {wanted}")
    if file:
        return classifier_of(open_file(file, place.tensors.layout), given, place.tensors)
    from export.from_torch import origin  # which alone loads torch
    from train.weights.fitting import Choice

    choice = Choice(place.ema, place.key)
    request = origin.Request(place.checkpoint, place.model, choice, place.trust, place.tensors.penultimate)
    return origin.read(request, given)


def in_memory(model: Any, given: Description) -> Classifier:
    """The classifier that a program holds: an ONNX ModelProto or a torch module.

    Raises:
        ExportError: neither, or something about it is missing.
    """
    _check_given(given)
    if isinstance(model, onnx.ModelProto):
        path = Path(model.graph.name or "model")
        check(model, path)
        return classifier_of(open_model(model, path), given, Tensors())
    from export.from_torch import in_memory as torch_in_memory  # which alone loads torch

    return torch_in_memory.read(model, given)


def _check_given(given: Description) -> None:
    if given.task == "unlabelled" and given.labels is not None:
        raise ExportError("labels and the task unlabelled don't go together: a model of features has no classes")
