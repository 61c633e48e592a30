"""fDBD: the mean distance of the features to the decision boundaries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from export.detectors.interface import Array, Features, Fitted, Score, Training
from export.exceptions import NotApplicable
from export.graph.building import Graph

_SMALLEST_NORM = 1e-12


@dataclass(frozen=True)
class Fdbd(Fitted):
    """sum_k (f_c - f_k) / ||w_c - w_k||_2 / ((K - 1) ||a - m||_2), c the predicted class and m the mean features.

    Liu & Qin 2024, arXiv:2312.11536, eq. 5-7: the mean distance to the boundaries between c and each other class, in units of
    the distance to the mean. Higher is more in-distribution. O(K + D), and 4 K^2 bytes in the file. A class with the
    weights of c has no boundary with it and is left out. The authors' code and OpenOOD leave out the factor 1 / (K - 1),
    which orders alike. Needs a plain linear last layer of two classes or more.
    """

    of_one_label = True
    linear = True
    use = "Where the margin tells more than the logits' level, as with LogitNorm; nothing to choose."
    inverse: Array  # (K, K), 1 / ||w_c - w_k|| / (K - 1)
    mean: Array  # (D,)

    @classmethod
    def fit(cls, training: Training) -> Fdbd:
        weights, _ = training.layers.linear()
        if len(weights) < 2:
            raise NotApplicable("one class has no decision boundary")
        distances = cdist(weights, weights)
        inverse = np.divide(1.0, distances, out=np.zeros_like(distances), where=distances > 0)
        return cls(inverse / (len(weights) - 1), training.penultimate.mean(axis=0, dtype=np.float64))

    def reference(self, logits: Features, penultimate: Features) -> Score:
        f = np.asarray(logits, dtype=np.float64)
        margins = (f.max(axis=1, keepdims=True) - f) * self.inverse[f.argmax(axis=1)]
        distance = np.linalg.norm(np.asarray(penultimate, dtype=np.float64) - self.mean, axis=1)
        return np.asarray(margins.sum(axis=1) / np.maximum(distance, _SMALLEST_NORM))

    def build(self, g: Graph, logits: str, penultimate: str) -> str:
        differences = g.op("Sub", g.reduce("ReduceMax", logits), logits)
        own = g.op("Gather", g.float32(self.inverse), g.op("ArgMax", logits, axis=1, keepdims=0), axis=0)
        distance = g.reduce("ReduceL2", g.op("Sub", penultimate, g.float32(self.mean)))
        return g.op("Div", g.reduce("ReduceSum", g.op("Mul", differences, own)), g.op("Max", distance, _SMALLEST_NORM))
