"""DICE: the energy of logits that only the weights which matter contribute to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from export.detectors.base import Energy
from export.detectors.interface import (
    Array,
    Features,
    Fitted,
    Score,
    Training,
    check_temperature,
    float64_rows,
)
from export.graph.building import Graph


@dataclass(frozen=True)
class DiceSettings:
    """Attributes:
    sparsity: share of the weights that is left out; 0.9 is the paper's for CIFAR-10 and CIFAR-100, 0.7 for ImageNet.
    temperature: of the energy; the paper's is 1.
    """

    sparsity: float = 0.9
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity < 1:
            raise ValueError(f"sparsity must be at least 0 and below 1, found {self.sparsity:g}")
        check_temperature(self.temperature)


@dataclass(frozen=True)
class Dice(Fitted):
    """T logsumexp(f' / T), f' = (M * W) a + b, where M keeps the weights of largest mean contribution W_kd E[a_d].

    Sun & Li 2022, arXiv:2111.09805, section 3; the mean is over the training images, whatever their class. Higher is more
    in-distribution. O(K D), one more last layer. Needs a plain linear last layer; the predicted class stays that of the
    raw logits.
    """

    settings = DiceSettings()
    linear = True
    use = "Where many features and classes make the logits of unknown images a sum of many small contributions."
    weights: Array  # (K, D), masked
    bias: Array  # (K,)
    temperature: float

    @classmethod
    def fit(cls, training: Training) -> Dice:
        settings = training.settings_of(cls)
        weights, bias = training.layers.linear()
        mean = sum(rows.sum(axis=0) for _, rows in float64_rows(training.penultimate)) / len(training.penultimate)
        contribution = (weights * mean).ravel()
        mask = np.ones(contribution.size, dtype=bool)
        mask[np.argsort(contribution, kind="stable")[: round(settings.sparsity * contribution.size)]] = False
        return cls(weights * mask.reshape(weights.shape), bias, settings.temperature)

    def reference(self, logits: Features, penultimate: Features) -> Score:
        sparse = np.asarray(penultimate, dtype=np.float64) @ self.weights.T + self.bias
        return Energy(self.temperature).reference(sparse, penultimate)

    def build(self, g: Graph, logits: str, penultimate: str) -> str:
        sparse = g.op("Gemm", penultimate, g.float32(self.weights), g.float32(self.bias), transB=1)
        return Energy(self.temperature).build(g, sparse, penultimate)
