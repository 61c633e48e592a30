"""KNN: distance to the k-th nearest normalised training feature."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from export.detectors.distances.features import build_unit, unit
from export.detectors.interface import Features, Fitted, Score, Training, float64_rows
from export.exceptions import ExportError, NotApplicable
from export.graph.building import Graph

# TensorRT's TopK takes no larger one.
LARGEST_K = 3840
# Candidates beyond k.
_SPARE = 64


def check_bank(k: int, bank: float) -> None:
    """Raises ValueError for settings that no bank can have."""
    if not 1 <= k <= LARGEST_K:
        raise ValueError(f"k must be from 1 to {LARGEST_K}, found {k}")
    if not 0 < bank < math.inf:
        raise ValueError(f"bank must be a share up to 1 or a number of images, found {bank:g}")


class BankSettings(Protocol):
    """How many neighbours, in which bank."""

    @property
    def k(self) -> int: ...
    @property
    def bank(self) -> float: ...


@dataclass(frozen=True)
class KnnSettings:
    """Attributes:
    k: 50 is the paper's for CIFAR-10; for ImageNet it has 1000 with the whole bank and 10 with 1 % of it (table 4).
    bank: share of the training images that is kept, if at most 1, else their number.
    """

    k: int = 50
    bank: float = 1.0

    def __post_init__(self) -> None:
        check_bank(self.k, self.bank)


@dataclass(frozen=True)
class Knn(Fitted):
    """-||z - z_(k)||_2, z = a / ||a||_2 and z_(k) its k-th nearest neighbour in the bank of training features.

    Sun et al. 2022, arXiv:2204.06507, section 3. At most 0; higher, that is nearer, is more in-distribution.
    O(M D), and 4 M D bytes in the file for a bank of M; 4 N (M + (k + 64) D) bytes while a batch of N runs.
    """

    of_features = True
    settings = KnnSettings()
    use = (
        "Where the file may carry a bank of training features: it assumes nothing of their distribution, and "
        "costs the most."
    )
    bank: Features  # (M, D), float32, rows of norm 1
    k: int

    @classmethod
    def fit(cls, training: Training) -> Knn:
        settings = training.settings_of(cls)
        return cls(unit_rows(training.penultimate[bank_rows("knn", settings, training)]), settings.k)

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
        candidates = g.constant(np.array([min(self.k + _SPARE, len(self.bank), LARGEST_K)]))
        cosines = g.op("TopK", g.op("Gemm", z, bank, transB=1), candidates, axis=1)
        neighbours = g.op("Gather", bank, f"{cosines}_1", axis=0)  # (N, candidates, D)
        differences = g.op("Sub", g.op("Unsqueeze", z, g.constant(np.array([1]))), neighbours)
        distances = g.op("ReduceL2", differences, g.constant(np.array([2])), keepdims=0)
        nearest = g.op("TopK", distances, g.constant(np.array([self.k])), axis=1, largest=0)
        return g.op("Neg", g.op("Gather", nearest, g.constant(np.array([self.k - 1])), axis=1))


def bank_rows(name: str, settings: BankSettings, training: Training) -> npt.NDArray[np.int64]:
    """The training images in a detector's bank, ascending; the same for the same size and seed.

    Raises:
        NotApplicable: more neighbours than there are images.
        ExportError: more neighbours than the bank has, or a larger bank than there are images.
    """
    count = len(training.penultimate)
    size = round(settings.bank * count if settings.bank <= 1 else settings.bank)
    if not settings.k <= size <= count:
        kind = NotApplicable if settings.k > count else ExportError
        raise kind(
            f"{name}.k={settings.k} neighbours in a bank of {size} of {count} training images: choose "
            "k <= bank <= images with --set"
        )
    return np.sort(np.random.default_rng(training.seed).permutation(count)[:size])


def unit_rows(features: Features) -> npt.NDArray[np.floating]:
    """Rows (M, D) of norm 1, rounded to float32."""
    return np.concatenate([unit(a).astype(np.float32) for _, a in float64_rows(features)])
