"""Post-hoc detectors; :data:`DETECTORS` lists them, by the name of their column in ``scores``.

The base scores, which every file has, are in :data:`export.detectors.base.BASE`. To add a detector, write its file and
its line here.
"""

from __future__ import annotations

from export.detectors.combined.nan import NanKnn, NanReact, NanReactKnn, NanReactSsd, NanSsd
from export.detectors.distances.knn import Knn
from export.detectors.distances.mahalanobis import Mahalanobis
from export.detectors.distances.ssd import Ssd
from export.detectors.interface import Fitted
from export.detectors.logits.kl_uniform import KlUniform
from export.detectors.shaping.react import React
from export.detectors.weights.dice import Dice
from export.detectors.weights.gradnorm import GradNorm
from export.detectors.weights.hidden_confidence import HiddenConfidence
from export.detectors.weights.vim import Vim

DETECTORS: dict[str, type[Fitted]] = {
    "kl_uniform": KlUniform,
    "gradnorm": GradNorm,
    "hidden_confidence": HiddenConfidence,
    "react": React,
    "dice": Dice,
    "mahalanobis": Mahalanobis,
    "ssd": Ssd,
    "vim": Vim,
    "knn": Knn,
    "nan_knn": NanKnn,
    "nan_ssd": NanSsd,
    "nan_react": NanReact,
    "nan_react_knn": NanReactKnn,
    "nan_react_ssd": NanReactSsd,
}
