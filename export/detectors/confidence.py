"""The reported confidence as a column of ``scores``, for the threshold that bounds the error of accepted images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from export.detectors.base import Msp, build_max_probability
from export.detectors.interface import Detector, Features, Score
from export.graph.building import Graph

CONFIDENCE = "confidence"


@dataclass(frozen=True)
class Confidence(Detector):
    """Calibrated confidence, max_k softmax(f / T)_k, in [1/K, 1], with the temperature T of Guo et al. 2017 (section 4.2).

    `msp` at T = 1. It orders images by how likely their label is right, and not by how typical they are.
    """

    use = "The selection of --max-error; not a gate's score."
    temperature: float = 1.0

    def reference(self, logits: Features, penultimate: Features) -> Score:
        return Msp().reference(np.asarray(logits, dtype=np.float64) / self.temperature, penultimate)

    def build(self, g: Graph, logits: str, penultimate: str) -> str:
        return build_max_probability(g, logits, self.temperature)
