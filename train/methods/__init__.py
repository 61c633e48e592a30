"""Training methods: what the loss of a batch is. :data:`METHODS` lists them; nothing else knows their names."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from train.exceptions import TrainingError
from train.methods.base import Batch, Method, Step
from train.methods.cross_entropy import CrossEntropy
from train.methods.energy import Energy
from train.methods.greg import GReg, GRegOutlierExposure, GRegPlus
from train.methods.logit_penalty import LogitPenalty
from train.methods.logitnorm import LogitNorm
from train.methods.moco import Moco
from train.methods.multilabel import BinaryCrossEntropy, SNoJoE
from train.methods.outlier_exposure import OutlierExposure

__all__ = ["METHODS", "Batch", "Method", "Step", "make"]

METHODS: dict[str, type[Method]] = {
    "cross-entropy": CrossEntropy,
    "logitnorm": LogitNorm,
    "logit-penalty": LogitPenalty,
    "energy": Energy,
    "oe": OutlierExposure,
    "greg": GReg,
    "greg-oe": GRegOutlierExposure,
    "greg+": GRegPlus,
    "bce": BinaryCrossEntropy,
    "snojoe": SNoJoE,
    "moco": Moco,
}


def make(name: str, options: Mapping[str, float | str]) -> Method:
    """Build a method of :data:`METHODS` with its hyperparameters.

    Raises:
        TrainingError: for an unknown method or hyperparameter, or a value that is none of its; the message lists
            the known ones.
    """
    if name not in METHODS:
        raise TrainingError(f"unknown method {name!r}; choose one of {', '.join(METHODS)}")
    fields = {field.name: field for field in dataclasses.fields(METHODS[name])}
    for option, value in options.items():
        if option not in fields:
            raise TrainingError(f"method {name!r} has no hyperparameter {option!r}; it has {list(fields)}")
        if isinstance(value, str) != isinstance(fields[option].default, str):
            kind = "a word" if isinstance(value, int | float) else "a number"
            raise TrainingError(f"{option} of method {name!r} must be {kind}, found {value!r}")
        if not isinstance(value, str) and not math.isfinite(value):
            raise TrainingError(f"{option} of method {name!r} must be finite, found {value!r}")
        if isinstance(fields[option].default, int) and value != int(value):
            raise TrainingError(f"{option} of method {name!r} must be a whole number, found {value!r}")
    return METHODS[name](**options)
