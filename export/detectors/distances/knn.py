"""KNN: distance to the k-th nearest normalised training feature."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from export.detectors.distances.features import build_unit, unit
from export.detectors.interface import Array, Features, Fitted, Score, Training, float64_rows
from export.exceptions import ExportError
from export.graph import Graph

# TensorRT's TopK takes no larger one.
_LARGEST_K = 3840
# Candidates beyond k.
_SPARE = 64


@dataclass(frozen=True)
class KnnSettings:
    """Attributes:
    k: 50 is the paper's for CIFAR-10; for ImageNet it has 1000 with the whole bank and 10 with 1 % of it (table 4).
    bank: share of the training images that is kept, if at most 1, else their number.
    """

    k: int = 50
    bank: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.k <= _LARGEST_K:
            raise ValueError(f"k must be from 1 to {_LARGEST_K}, found {self.k}")
        if not 0 < self.bank < math.inf:
            raise ValueError(f"bank must be a share up to 1 or a number of images, found {self.bank:g}")


@dataclass(frozen=True)
class Knn(Fitted):
    """-||z - z_(k)||_2, z = a / ||a||_2 and z_(k) its k-th nearest neighbour in the bank of training features.

    Sun et al. 2022, arXiv:2204.06507, section 3. At most 0; higher, that is nearer, is more in-distribution.
    O(M D), and 4 M D bytes in the file for a bank of M; 4 N (M + (k + 64) D) bytes while a batch of N runs.
    """

    settings = KnnSettings()
    use = (
        "Where the file may carry a bank of training features: it assumes nothing of their distribution, and "
        "costs the most."
    )
    bank: Array  # (M, D), rows of norm 1, exact in float32
    k: int

    @classmethod
    def fit(cls, training: Training) -> Knn:
        settings, count = training.settings_of(cls), len(training.penultimate)
        size = round(settings.bank * count if settings.bank <= 1 else settings.bank)
        if not settings.k <= size <= count:
            raise ExportError(
                f"knn.k={settings.k} neighbours in a bank of {size} of {count} training images: choose "
                "k <= bank <= images with --set"
            )
        chosen = np.sort(np.random.default_rng(training.seed).permutation(count)[:size])
        rows = [unit(a).astype(np.float32) for _, a in float64_rows(training.penultimate[chosen])]
        return cls(np.concatenate(rows), settings.k)

    def reference(self, logits: Features, penultimate: Features) -> Score:
        z, bank = unit(penultimate), np.asarray(self.bank, dtype=np.float64)
        squares = (z**2).sum(axis=1, keepdims=True) - 2 * z @ bank.T + (bank**2).sum(axis=1)
        return np.asarray(-np.sqrt(np.maximum(np.partition(squares, self.k - 1, axis=1)[:, self.k - 1], 0)))

    def build(self, g: Graph, logits: str, penultimate: str) -> str:
        """Candidates are found by their cosines, their distances by subtraction.

        ||z - b||^2 = 2 - 2 cos cancels where features lie close together, as those of one class do after long training:
        an error of 1e-7 in the cosine then changes the order of neighbours, so there are more candidates than k.
        """
        z, bank = build_unit(g, penultimate), g.constant(self.bank)
        candidates = g.constant(np.array([min(self.k + _SPARE, len(self.bank), _LARGEST_K)]))
        cosines = g.op("TopK", g.op("Gemm", z, bank, transB=1), candidates, axis=1)
        neighbours = g.op("Gather", bank, f"{cosines}_1", axis=0)  # (N, candidates, D)
        differences = g.op("Sub", g.op("Unsqueeze", z, g.constant(np.array([1]))), neighbours)
        distances = g.op("ReduceL2", differences, g.constant(np.array([2])), keepdims=0)
        nearest = g.op("TopK", distances, g.constant(np.array([self.k])), axis=1, largest=0)
        return g.op("Neg", g.op("Gather", nearest, g.constant(np.array([self.k - 1])), axis=1))
