"""NAN+ReAct+SSD."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from export.detectors.fusion import build_divide_by_nan, divide_by_nan
from export.detectors.interface import Detector, Features, Score, Training
from export.detectors.react import React
from export.detectors.ssd import Ssd
from export.graph import Graph


@dataclass(frozen=True)
class NanReactSsd(Detector):
    """-d(r) / ||r||_NAN, r = min(a, c) with the clip of `react`, d the distance of `ssd` (NAN table 2, eq. 49).

    The paper does not say what is rectified. Here, as in its table 12, ReAct is applied to the model: all features are
    rectified, those of the clusters too. At most 0; higher is more in-distribution. The cost is that of `ssd`, with
    clusters of its own.
    """

    parts = (React, Ssd)
    use = "`nan_ssd` where `nan_react` helps `nan`."
    react: React
    ssd: Ssd

    @classmethod
    def fit(cls, training: Training) -> NanReactSsd:
        react = training.fit(React)
        return cls(react, training.with_penultimate(react.rectify(training.penultimate)).fit(Ssd))

    def reference(self, logits: Features, penultimate: Features) -> Score:
        rectified = self.react.rectify(np.asarray(penultimate))
        return divide_by_nan(self.ssd.reference(logits, rectified), rectified)

    def build(self, g: Graph, logits: str, penultimate: str) -> str:
        rectified = self.react.build_rectified(g, penultimate)
        return build_divide_by_nan(g, self.ssd.build(g, logits, rectified), rectified)
