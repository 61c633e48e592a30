"""NAN's compositions: the negative-aware norm of rectified features, and distances divided by it.

NAN's table 2 does not say what ReAct rectifies. Here, as in its table 12, it is applied to the model: all features are
rectified, those that a distance is fitted on too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from export.detectors.base import Nan
from export.detectors.distances.knn import Knn
from export.detectors.distances.ssd import Ssd
from export.detectors.interface import Detector, Features, Fitted, Score, Training
from export.detectors.shaping.react import React
from export.graph.building import Graph

# Divides where no activation is positive, so that the score is low and not infinite.
_SMALLEST = 1e-12


@dataclass(frozen=True)
class _Divided(Fitted):
    """-d(a) / ||a||_NAN, d a distance (NAN eq. 49, tables 2 and 3)."""

    of_features = True
    negative = Nan.negative
    distance: Detector  # negated

    @classmethod
    def fit(cls, training: Training) -> _Divided:
        (distance,) = cls.parts
        return cls(training.fit(distance))

    def reference(self, logits: Features, penultimate: Features) -> Score:
        norm = np.maximum(Nan().reference(logits, penultimate), _SMALLEST)
        return self.distance.reference(logits, penultimate) / norm

    def build(self, g: Graph, logits: str, penultimate: str) -> str:
        distance = self.distance.build(g, logits, penultimate)
        return g.op("Div", distance, g.op("Max", Nan().build(g, logits, penultimate), _SMALLEST))


class NanKnn(_Divided):
    """-d(a) / ||a||_NAN, d the distance of `knn` (NAN eq. 49, tables 2 and 3).

    At most 0; higher is more in-distribution. The cost is that of `knn`, with which it shares the bank.
    """

    parts = (Knn,)
    use = "`knn` for a network whose activations are sparse on known images, such as one with a projection head."


class NanSsd(_Divided):
    """-d(a) / ||a||_NAN, d the distance of `ssd` (NAN eq. 49, tables 2 and 3).

    At most 0; higher is more in-distribution. The cost is that of `ssd`, with which it shares the clusters.
    """

    parts = (Ssd,)
    use = "The same with `ssd`, which needs no bank."


@dataclass(frozen=True)
class _Rectified(Fitted):
    """A score of r = min(a, c), c the clip of `react`."""

    negative = Nan.negative
    react: React
    score: Detector

    def reference(self, logits: Features, penultimate: Features) -> Score:
        return self.score.reference(logits, self.react.rectify(np.asarray(penultimate)))

    def build(self, g: Graph, logits: str, penultimate: str) -> str:
        return self.score.build(g, logits, self.react.build_rectified(g, penultimate))


class NanReact(_Rectified):
    """||min(a, c)||_NAN, c the clip of `react` (NAN table 2).

    Higher is more in-distribution. O(D); shares nothing but the clip with `react`.
    """

    parts = (React,)
    use = "As `nan`, where a few activations run high on unknown images."

    @classmethod
    def fit(cls, training: Training) -> NanReact:
        return cls(training.fit(React), Nan())


class NanReactKnn(_Rectified):
    """-d(r) / ||r||_NAN, r = min(a, c) with the clip of `react`, d the distance of `knn` (NAN table 2, eq. 49).

    At most 0; higher is more in-distribution. The cost is that of `knn`, with a bank of its own.
    """

    parts = (React, Knn)
    use = "`nan_knn` where `nan_react` helps `nan`."

    @classmethod
    def fit(cls, training: Training) -> NanReactKnn:
        return cls(*_rectified(training, NanKnn))


class NanReactSsd(_Rectified):
    """-d(r) / ||r||_NAN, r = min(a, c) with the clip of `react`, d the distance of `ssd` (NAN table 2, eq. 49).

    At most 0; higher is more in-distribution. The cost is that of `ssd`, with clusters of its own.
    """

    parts = (React, Ssd)
    use = "`nan_ssd` where `nan_react` helps `nan`."

    @classmethod
    def fit(cls, training: Training) -> NanReactSsd:
        return cls(*_rectified(training, NanSsd))


def _rectified(training: Training, kind: type[_Divided]) -> tuple[React, _Divided]:
    """ReAct, and a detector fitted to what it leaves of the features."""
    react = training.fit(React)
    return react, training.with_penultimate(react.rectify(training.penultimate)).fit(kind)
