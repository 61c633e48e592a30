"""NAN+SSD."""

from __future__ import annotations

from dataclasses import dataclass

from export.detectors.fusion import build_divide_by_nan, divide_by_nan
from export.detectors.interface import Detector, Features, Score, Training
from export.detectors.ssd import Ssd
from export.graph import Graph


@dataclass(frozen=True)
class NanSsd(Detector):
    """-d(a) / ||a||_NAN, d the distance of `ssd` (NAN eq. 49, tables 2 and 3).

    At most 0; higher is more in-distribution. The cost is that of `ssd`, with which it shares the clusters.
    """

    parts = (Ssd,)
    use = "The same with `ssd`, which needs no bank."
    ssd: Ssd

    @classmethod
    def fit(cls, training: Training) -> NanSsd:
        return cls(training.fit(Ssd))

    def reference(self, logits: Features, penultimate: Features) -> Score:
        return divide_by_nan(self.ssd.reference(logits, penultimate), penultimate)

    def build(self, g: Graph, logits: str, penultimate: str) -> str:
        return build_divide_by_nan(g, self.ssd.build(g, logits, penultimate), penultimate)
