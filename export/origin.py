"""Where a classifier comes from, and the wing that reads it."""

from __future__ import annotations

import argparse

from export.classifier import Classifier
from export.descriptions.description import Description
from export.from_onnx.file import is_onnx
from export.from_onnx.options import Tensors, classifier_of


def read(args: argparse.Namespace, given: Description) -> Classifier:
    """The classifier that the options of :func:`export.options.add_model_options` name.

    Raises:
        ExportError: there is none, or something about it is missing.
        ModuleNotFoundError: torch is not installed.
    """
    if args.model is None and args.checkpoint is not None and is_onnx(args.checkpoint):
        return classifier_of(args.checkpoint, given, Tensors.of(args))
    from export.from_torch import origin  # which alone loads torch
    from export.from_torch.fitting import Choice

    request = origin.Request(args.checkpoint, args.model, Choice(args.ema, args.key), args.trust)
    return origin.read(request, given)
