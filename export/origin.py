"""Where a classifier comes from, and the wing that reads it."""

from __future__ import annotations

import argparse

from export.classifier import Classifier
from export.descriptions.description import Description
from export.exceptions import ExportError


def read(args: argparse.Namespace, given: Description) -> Classifier:
    """The classifier that the options of :func:`export.options.add_model_options` name.

    Raises:
        ExportError: there is none, or something about it is missing.
    """
    try:
        from export.from_torch import origin
        from export.from_torch.fitting import Choice
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        raise ExportError(f"a classifier of torch needs {missing}: pip install 'oodgate[export]'") from error
    request = origin.Request(args.checkpoint, args.model, Choice(args.ema, args.key), args.trust)
    return origin.read(request, given)
