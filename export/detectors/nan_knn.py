"""NAN+KNN."""

from __future__ import annotations

from dataclasses import dataclass

from export.detectors.fusion import build_divide_by_nan, divide_by_nan
from export.detectors.interface import Detector, Features, Score, Training
from export.detectors.knn import Knn
from export.graph import Graph


@dataclass(frozen=True)
class NanKnn(Detector):
    """-d(a) / ||a||_NAN, d the distance of `knn` (NAN eq. 49, tables 2 and 3).

    At most 0; higher is more in-distribution. The cost is that of `knn`, with which it shares the bank.
    """

    parts = (Knn,)
    use = "`knn` for a network whose activations are sparse on known images, such as one with a projection head."
    knn: Knn

    @classmethod
    def fit(cls, training: Training) -> NanKnn:
        return cls(training.fit(Knn))

    def reference(self, logits: Features, penultimate: Features) -> Score:
        return divide_by_nan(self.knn.reference(logits, penultimate), penultimate)

    def build(self, g: Graph, logits: str, penultimate: str) -> str:
        return build_divide_by_nan(g, self.knn.build(g, logits, penultimate), penultimate)
