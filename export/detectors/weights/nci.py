"""NCI: how near the centred features lie to the weights of the predicted class."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from export.detectors.base import FeatureNorm
from export.detectors.choosing import best
from export.detectors.interface import Array, Features, Fitted, Score, Training
from export.graph.building import Graph

_ALPHAS = (0.0, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_SMALLEST_NORM = 1e-12


@dataclass(frozen=True)
class NciSettings:
    """Attributes:
    alpha: weight of the feature norm; None chooses from 0 and powers of ten by outliers, as the paper does.
    """

    alpha: float | None = None

    def __post_init__(self) -> None:
        if self.alpha is not None and not 0 <= self.alpha < math.inf:
            raise ValueError(f"alpha must be at least 0, found {self.alpha:g}")


@dataclass(frozen=True)
class Nci(Fitted):
    """w_c . (a - m) / ||a - m||_2 + alpha ||a||_1, c the predicted class, w_c its weights, m the mean features.

    Liu & Qin 2025, arXiv:2311.01479, eq. 5 and 7. Higher is more in-distribution. O(K + D). At a = m the first term is 0.
    Needs a plain linear last layer.
    """

    of_one_label = True
    settings = NciSettings()
    linear = True
    use = "For networks trained long with cross-entropy, whose features collapse towards the weights of their class."
    weights: Array  # (K, D)
    mean: Array  # (D,)
    alpha: float

    @classmethod
    def fit(cls, training: Training) -> Nci:
        weights, _ = training.layers.linear()
        mean = training.penultimate.mean(axis=0, dtype=np.float64)
        given = training.settings_of(cls).alpha
        return best((cls(weights, mean, alpha) for alpha in (_ALPHAS if given is None else (given,))), training)

    @property
    def chosen(self) -> dict[str, float]:
        return {"alpha": self.alpha}

    def reference(self, logits: Features, penultimate: Features) -> Score:
        centred = np.asarray(penultimate, dtype=np.float64) - self.mean
        own = self.weights[np.asarray(logits).argmax(axis=1)]
        nearness = (own * centred).sum(axis=1) / np.maximum(np.linalg.norm(centred, axis=1), _SMALLEST_NORM)
        return np.asarray(nearness + self.alpha * FeatureNorm().reference(logits, penultimate))

    def build(self, g: Graph, logits: str, penultimate: str) -> str:
        centred = g.op("Sub", penultimate, g.float32(self.mean))
        own = g.op("Gather", g.float32(self.weights), g.op("ArgMax", logits, axis=1, keepdims=0), axis=0)
        norm = g.op("Max", g.reduce("ReduceL2", centred), _SMALLEST_NORM)
        nearness = g.op("Div", g.reduce("ReduceSum", g.op("Mul", own, centred)), norm)
        return g.op("Add", nearness, g.op("Mul", FeatureNorm().build(g, logits, penultimate), self.alpha))
