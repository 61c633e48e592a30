"""NNGuide: the energy, guided by likeness to training images of high energy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from export.detectors.base import Energy
from export.detectors.distances.features import build_unit, unit
from export.detectors.distances.knn import bank_rows, check_bank, unit_rows
from export.detectors.interface import Array, Features, Fitted, Score, Training
from export.exceptions import NotApplicable
from export.graph.building import Graph


@dataclass(frozen=True)
class NnguideSettings:
    """Attributes:
    k: 10 is the authors'; OpenOOD has 100.
    bank: share of the training images that is kept, if at most 1, else their number; the paper's is 0.01 for ImageNet.
    """

    k: int = 10
    bank: float = 1.0

    def __post_init__(self) -> None:
        check_bank(self.k, self.bank)


@dataclass(frozen=True)
class Nnguide(Fitted):
    """E(x) mean_i E_i z . z_i over the k largest E_i z . z_i of the bank; z = a / ||a||_2, E the negative free energy.

    Park et al. 2023, arXiv:2309.14888, eq. 3-5. Higher is more in-distribution, as long as energies are positive, without
    which there is none. O(M D), and 4 M (D + 1) bytes in the file for a bank of M, which it shares with `knn` where that
    has as many. Both features are normalised, as in the paper; OpenOOD adds 1e-10 to each of their components too.
    """

    settings = NnguideSettings()
    use = "Where `energy` is good but too sure far from the training images, and the file may carry a bank."
    bank: Features  # (M, D), float32, rows of norm 1
    energies: Array  # (M,)
    k: int

    @classmethod
    def fit(cls, training: Training) -> Nnguide:
        settings = training.settings_of(cls)
        rows = bank_rows("nnguide", settings, training)
        energies = Energy().reference(training.logits[rows], training.penultimate[rows])
        if not np.quantile(energies, 0.05) > 0:
            raise NotApplicable("the energies of the training images are not positive, and their products mean nothing")
        return cls(unit_rows(training.penultimate[rows]), energies, settings.k)

    def reference(self, logits: Features, penultimate: Features) -> Score:
        guided = unit(penultimate) @ np.asarray(self.bank, dtype=np.float64).T * self.energies
        nearest = np.partition(guided, -self.k, axis=1)[:, -self.k :].mean(axis=1)
        return np.asarray(Energy().reference(logits, penultimate) * nearest)

    def build(self, g: Graph, logits: str, penultimate: str) -> str:
        cosines = g.op("Gemm", build_unit(g, penultimate), g.constant(self.bank), transB=1)
        guided = g.op("Mul", cosines, g.float32(self.energies[None]))
        nearest = g.reduce("ReduceMean", g.op("TopK", guided, g.constant(np.array([self.k])), axis=1))
        return g.op("Mul", Energy().build(g, logits, penultimate), nearest)
