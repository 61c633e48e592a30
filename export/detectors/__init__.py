"""Post-hoc detectors; :data:`DETECTORS` lists them, by the name of their column in ``scores``.

The base scores, which a file has from the start, are in :data:`export.detectors.base.BASE`. To add a detector, write its
file and its line here.
"""

from __future__ import annotations

from export.detectors.combined.nan import NanKnn, NanReact, NanReactKnn, NanReactSsd, NanSsd
from export.detectors.distances.knn import Knn
from export.detectors.distances.mahalanobis import Mahalanobis, MahalanobisPlusPlus, Rmds, RmdsPlusPlus
from export.detectors.distances.nnguide import Nnguide
from export.detectors.distances.she import She
from export.detectors.distances.ssd import Ssd
from export.detectors.interface import Fitted
from export.detectors.logits.gen import Gen
from export.detectors.logits.kl_uniform import KlUniform
from export.detectors.logits.klm import Klm
from export.detectors.shaping.ash import AshB, AshS, Scale
from export.detectors.shaping.react import React
from export.detectors.shaping.vra import Vra
from export.detectors.weights.dice import Dice
from export.detectors.weights.fdbd import Fdbd
from export.detectors.weights.gradnorm import GradNorm
from export.detectors.weights.hidden_confidence import HiddenConfidence
from export.detectors.weights.nci import Nci
from export.detectors.weights.vim import Vim

DETECTORS: dict[str, type[Fitted]] = {
    "kl_uniform": KlUniform,
    "gradnorm": GradNorm,
    "hidden_confidence": HiddenConfidence,
    "gen": Gen,
    "klm": Klm,
    "nci": Nci,
    "fdbd": Fdbd,
    "react": React,
    "vra": Vra,
    "ash-b": AshB,
    "ash-s": AshS,
    "scale": Scale,
    "dice": Dice,
    "she": She,
    "mahalanobis": Mahalanobis,
    "mahalanobis++": MahalanobisPlusPlus,
    "rmds": Rmds,
    "rmds++": RmdsPlusPlus,
    "ssd": Ssd,
    "vim": Vim,
    "knn": Knn,
    "nnguide": Nnguide,
    "nan_knn": NanKnn,
    "nan_ssd": NanSsd,
    "nan_react": NanReact,
    "nan_react_knn": NanReactKnn,
    "nan_react_ssd": NanReactSsd,
}
