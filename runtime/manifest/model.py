"""Which network a bundle holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Task = Literal["multiclass", "multilabel"]
Precision = Literal["fp32", "fp16", "int8"]


@dataclass(frozen=True)
class ModelSpec:
    """Which network it is.

    Attributes:
        name: what decisions and metrics call it.
        arch, method: the architecture and the training method.
        parameters: number of learned weights.
        features: D, the width of the penultimate layer.
        precision: of the layers before the penultimate activations; normalisation, scores and gate are always fp32.
    """

    name: str
    arch: str
    method: str
    parameters: int
    features: int
    precision: Precision = "fp32"
