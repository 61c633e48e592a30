"""NAN+ReAct."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from export import head
from export.detectors import base as scores
from export.detectors.interface import Detector, Features, Score, Training
from export.detectors.react import React
from export.graph import Graph


@dataclass(frozen=True)
class NanReact(Detector):
    """||min(a, c)||_NAN, c the clip of `react` (NAN table 2).

    Higher is more in-distribution. O(D); shares nothing but the clip with `react`.
    """

    parts = (React,)
    use = "As `nan`, where a few activations run high on unknown images."
    react: React

    @classmethod
    def fit(cls, training: Training) -> NanReact:
        return cls(training.fit(React))

    def reference(self, logits: Features, penultimate: Features) -> Score:
        return scores.nan(logits, self.react.rectify(np.asarray(penultimate)))

    def build(self, g: Graph, logits: str, penultimate: str) -> str:
        return head.nan(g, self.react.build_rectified(g, penultimate))
