"""KL matching: divergence of the prediction from the typical one of the class that it is most like."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from export.detectors.interface import Array, Features, Fitted, Score, Training, float64_rows
from export.graph.building import Graph

# A probability below it is 0 to float64 soon after; its logarithm is finite.
_SMALLEST = 1e-300
_NEAR = 0.1


@dataclass(frozen=True)
class Klm(Fitted):
    """-min_k KL(softmax f || d_k), d_k the mean softmax of the training images that are predicted as class k.

    Hendrycks et al. 2022, arXiv:1911.11132, section 4.2, and pytorch-ood; no labels are looked at. The paper takes validation
    images; here they are those that detectors are fitted on. Only classes that are predicted count; OpenOOD has a sure
    prediction stand for the others. At most 0; higher is more in-distribution. O(K^2), and 8 K^2 bytes in the file.
    """

    of_one_label = True
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
        """The nearest has the largest sum p log d, whose rounding does not matter, the divergence by subtraction.

        It is the sum of d psi(r), psi(r) = e^r (r - 1) + 1 and r = log p - log d, no term of which is negative: where p is
        nearly d, by the series of psi, elsewhere as p (r - 1) + d. The logarithm of the largest p, which sure predictions
        differ in, keeps its relative precision: it is -log(1 + s), s the sum of the others relative to it; 1 + s rounds
        to u, and what is lost, s - (u - 1), is computed exactly.
        """
        top = g.reduce("ReduceMax", logits)
        below = g.op("Sub", logits, top)
        others = g.op("Cast", g.op("Less", logits, top), to=TensorProto.FLOAT)
        ties = g.op("Sub", g.reduce("ReduceSum", g.op("Sub", 1.0, others)), 1.0)
        rest = g.op("Add", g.reduce("ReduceSum", g.op("Mul", g.op("Exp", below), others)), ties)
        rounded = g.op("Add", rest, 1.0)
        lost = g.op("Div", g.op("Sub", rest, g.op("Sub", rounded, 1.0)), rounded)
        logs = g.op("Sub", below, g.op("Add", g.op("Log", rounded), lost))
        p = g.op("Exp", logs)
        crossed = g.op("Gemm", p, g.float32(self.logarithms), transB=1)
        nearest = g.op("ArgMax", crossed, axis=1, keepdims=0)
        r = g.op("Sub", logs, g.op("Gather", g.float32(self.logarithms), nearest, axis=0))
        d = g.op("Gather", g.float32(np.exp(self.logarithms)), nearest, axis=0)
        apart = g.op("Add", g.op("Mul", p, g.op("Sub", r, 1.0)), d)
        terms = g.op("Where", g.op("Less", g.op("Abs", r), _NEAR), g.op("Mul", d, _build_series(g, r)), apart)
        return g.op("Neg", g.reduce("ReduceSum", terms))


def _build_series(g: Graph, r: str) -> str:
    """r^2 (1/2 + r/3 + r^2/8 + r^3/30 + r^4/144), psi to 1e-7 of itself up to :data:`_NEAR`."""
    value = g.op("Mul", r, 1 / 144)
    for coefficient in (1 / 30, 1 / 8, 1 / 3):
        value = g.op("Mul", g.op("Add", value, coefficient), r)
    return g.op("Mul", g.op("Mul", r, r), g.op("Add", value, 0.5))


def _log_softmax(f: Array) -> Array:
    below = f - f.max(axis=1, keepdims=True)
    return np.asarray(below - np.log(np.exp(below).sum(axis=1, keepdims=True)))
