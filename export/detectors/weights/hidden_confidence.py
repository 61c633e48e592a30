"""Hidden-classifier confidence: the largest logit of the last layer with its weights binarised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from export.detectors.interface import Array, Features, Fitted, Score, Training
from export.graph.building import Graph


@dataclass(frozen=True)
class HiddenConfidence(Fitted):
    """max_k (B a)_k with B = sign(W), sign(x) = 1 if x > 0 and -1 otherwise, W (K, D) the last layer's weights.

    NAN eq. 3 with l = L, where eq. 2 gives C = W: the confidence that, by theorem 3, the feature norm ||a||_1
    approximates. Higher is more in-distribution. O(K D), one more last layer. Needs a plain linear last layer.
    """

    needs = "nothing"
    linear = True
    use = "To see what of the feature norm is evidence for a class; rarely the best gate."
    signs: Array  # (K, D)

    @classmethod
    def fit(cls, training: Training) -> HiddenConfidence:
        weights, _ = training.layers.linear()
        return cls(np.where(weights > 0, 1.0, -1.0))

    def reference(self, logits: Features, penultimate: Features) -> Score:
        return np.asarray((np.asarray(penultimate, dtype=np.float64) @ self.signs.T).max(axis=1))

    def build(self, g: Graph, logits: str, penultimate: str) -> str:
        return g.reduce("ReduceMax", g.op("Gemm", penultimate, g.float32(self.signs), transB=1))
