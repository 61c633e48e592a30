"""Hidden-classifier confidence: the largest logit of the last layers with their product binarised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from export.detectors.interface import Array, Features, Fitted, Score, Training
from export.graph.building import Graph


@dataclass(frozen=True)
class HiddenConfidence(Fitted):
    """max_k (B a)_k with B = sign(C), sign(x) = 1 if x > 0 and -1 otherwise, C (K, D) the product of the last layers.

    NAN eq. 3 with l = L, where eq. 2 gives C: the weights of one linear layer, or W U of a projection head, which has
    the embedding U a and cosines to the rows of W. The confidence that, by theorem 3, the feature norm ||a||_1
    approximates. Higher is more in-distribution. O(K D), one more last layer. Needs last layers that are linear.
    """

    needs = "nothing"
    use = "To see what of the feature norm is evidence for a class; rarely the best gate."
    signs: Array  # (K, D)

    @classmethod
    def fit(cls, training: Training) -> HiddenConfidence:
        return cls(np.where(training.layers.composed() > 0, 1.0, -1.0))

    def reference(self, logits: Features, penultimate: Features) -> Score:
        return np.asarray((np.asarray(penultimate, dtype=np.float64) @ self.signs.T).max(axis=1))

    def build(self, g: Graph, logits: str, penultimate: str) -> str:
        return g.reduce("ReduceMax", g.op("Gemm", penultimate, g.float32(self.signs), transB=1))
