"""SHE: the inner product with the mean features of the predicted class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from export.detectors.interface import Array, Features, Fitted, Score, Training, float64_rows
from export.graph.building import Graph


@dataclass(frozen=True)
class She(Fitted):
    """a . s_c, c the predicted class and s_c the mean features of the training images of c that are predicted as c.

    Zhang et al. 2023, "Out-of-distribution detection based on in-distribution data patterns memorization with modern Hopfield
    energy" (ICLR), eq. 8: the inner product, not the log-sum-exp of the whole Hopfield energy. A class of which no
    training image is predicted right takes the mean over all images. Higher is more in-distribution. O(K + D).
    """

    of_one_label = True
    needs = "labels"
    use = "A cheap mixture of feature norm and likeness to the predicted class; seldom better than `nci`."
    patterns: Array  # (K, D)

    @classmethod
    def fit(cls, training: Training) -> She:
        classes, size = training.logits.shape[1], training.penultimate.shape[1]
        right = training.logits.argmax(axis=1) == training.labels
        sums = np.zeros((classes, size))
        for rows, a in float64_rows(training.penultimate):
            np.add.at(sums, training.labels[rows][right[rows]], a[right[rows]])
        counts = np.bincount(training.labels[right], minlength=classes)[:, None]
        mean = training.penultimate.mean(axis=0, dtype=np.float64)
        return cls(np.where(counts > 0, sums / np.maximum(counts, 1), mean))

    def reference(self, logits: Features, penultimate: Features) -> Score:
        own = self.patterns[np.asarray(logits).argmax(axis=1)]
        return np.asarray((np.asarray(penultimate, dtype=np.float64) * own).sum(axis=1))

    def build(self, g: Graph, logits: str, penultimate: str) -> str:
        predicted = g.op("ArgMax", logits, axis=1, keepdims=0)
        own = g.op("Gather", g.float32(self.patterns), predicted, axis=0)
        return g.reduce("ReduceSum", g.op("Mul", penultimate, own))
