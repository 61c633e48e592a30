"""GradNorm: how far the last layer's weights would move towards the uniform prediction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from export.detectors.base import FeatureNorm
from export.detectors.interface import Features, Fitted, Score, Training
from export.graph.building import Graph


@dataclass(frozen=True)
class GradNorm(Fitted):
    """|| d KL(u || softmax f) / dW ||_1 = ||a||_1 ||softmax(f) - 1/K||_1, W the last layer's weights.

    Huang et al. 2021, arXiv:2110.00218, eq. 3 and 7 with the L1 norm; for f = W a + b the gradient is the outer product
    (softmax(f) - 1/K) a', whence the closed form. Higher is more in-distribution. O(K + D); shares the softmax of `msp`
    and the norm of `feature_norm`. Needs a plain linear last layer.
    """

    of_one_label = True
    needs = "nothing"
    linear = True
    use = "Where neither the prediction nor the feature norm alone separates: it is the product of both."
    classes: int

    @classmethod
    def fit(cls, training: Training) -> GradNorm:
        weights, _ = training.layers.linear()
        return cls(len(weights))

    def reference(self, logits: Features, penultimate: Features) -> Score:
        f = np.asarray(logits, dtype=np.float64)
        e = np.exp(f - f.max(axis=1, keepdims=True))
        distance = np.abs(e / e.sum(axis=1, keepdims=True) - 1 / self.classes).sum(axis=1)
        return np.asarray(FeatureNorm().reference(logits, penultimate) * distance)

    def build(self, g: Graph, logits: str, penultimate: str) -> str:
        difference = g.op("Sub", g.op("Softmax", logits, axis=1), 1 / self.classes)
        return g.op("Mul", FeatureNorm().build(g, logits, penultimate), g.reduce("ReduceL1", difference))
