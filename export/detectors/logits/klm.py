"""KL matching: divergence of the prediction from the typical one of the class that it is most like."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from export.detectors.interface import Array, Features, Fitted, Score, Training, float64_rows
from export.graph import Graph

# A probability below it is 0 to float64 soon after; its logarithm is finite.
_SMALLEST = 1e-300


@dataclass(frozen=True)
class Klm(Fitted):
    """-min_k KL(softmax f || d_k), d_k the mean softmax of the training images that are predicted as class k.

    Hendrycks et al. 2022, arXiv:1911.11132, section 4.2, and pytorch-ood; no labels are looked at. The paper takes validation
    images; here they are those that detectors are fitted on. Only classes that are predicted count; OpenOOD has a sure
    prediction stand for the others. At most 0; higher is more in-distribution. O(K^2), and 4 K^2 bytes in the file.
    """

    use = "With classes that are confused with each other in typical ways: such a prediction is no sign of an unknown image."
    logarithms: Array  # (K', K), log d_k

    @classmethod
    def fit(cls, training: Training) -> Klm:
        predicted = training.logits.argmax(axis=1)
        present, members, counts = np.unique(predicted, return_inverse=True, return_counts=True)
        sums = np.zeros((len(present), training.logits.shape[1]))
        for rows, f in float64_rows(training.logits):
            np.add.at(sums, members[rows], np.exp(_log_softmax(f)))
        return cls(np.log(np.maximum(sums / counts[:, None], _SMALLEST)))

    def reference(self, logits: Features, penultimate: Features) -> Score:
        logs = _log_softmax(np.asarray(logits, dtype=np.float64))
        p = np.exp(logs)
        return np.asarray(-((p * logs).sum(axis=1, keepdims=True) - p @ self.logarithms.T).min(axis=1))

    def build(self, g: Graph, logits: str, penultimate: str) -> str:
        """The logarithm of the largest probability p, which sure predictions differ in, keeps its relative precision.

        It is -log(1 + r), r the sum of the others relative to it; 1 + r rounds to u, and what is lost, r - (u - 1), is
        computed exactly.
        """
        top = g.reduce("ReduceMax", logits)
        below = g.op("Sub", logits, top)
        others = g.op("Cast", g.op("Less", logits, top), to=1)
        ties = g.op("Sub", g.reduce("ReduceSum", g.op("Sub", 1.0, others)), 1.0)
        rest = g.op("Add", g.reduce("ReduceSum", g.op("Mul", g.op("Exp", below), others)), ties)
        rounded = g.op("Add", rest, 1.0)
        lost = g.op("Div", g.op("Sub", rest, g.op("Sub", rounded, 1.0)), rounded)
        logs = g.op("Sub", below, g.op("Add", g.op("Log", rounded), lost))
        p = g.op("Exp", logs)
        entropy = g.reduce("ReduceSum", g.op("Mul", p, logs))
        crossed = g.op("MatMul", p, g.float32(self.logarithms.T))
        return g.op("Neg", g.reduce("ReduceMin", g.op("Sub", entropy, crossed)))


def _log_softmax(f: Array) -> Array:
    below = f - f.max(axis=1, keepdims=True)
    return np.asarray(below - np.log(np.exp(below).sum(axis=1, keepdims=True)))
