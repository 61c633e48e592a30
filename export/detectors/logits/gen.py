"""GEN: the generalised entropy of the prediction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from export.detectors.interface import Features, Fitted, Score, Training
from export.exceptions import NotApplicable
from export.graph.building import Graph

# TensorRT's TopK takes no more.
_LARGEST = 3840


@dataclass(frozen=True)
class GenSettings:
    """Attributes:
    gamma: power of the probabilities; 0.1 is the paper's.
    largest: M, how many of the largest probabilities count, all where there are fewer; 100 is the paper's for ImageNet.
    """

    gamma: float = 0.1
    largest: int = 100

    def __post_init__(self) -> None:
        if not 0 < self.gamma <= 1:
            raise ValueError(f"gamma must be above 0 and at most 1, found {self.gamma:g}")
        if not 2 <= self.largest <= _LARGEST:
            raise ValueError(f"largest must be from 2 to {_LARGEST}, found {self.largest}")


@dataclass(frozen=True)
class Gen(Fitted):
    """-sum_j p_j^gamma (1 - p_j)^gamma over the M largest p_j of softmax f.

    Liu, Lochman & Zach 2023, "GEN: pushing the limits of softmax-based out-of-distribution detection" (CVPR), eq. 4 and 7. At
    most 0; higher is more in-distribution. O(K + M). The authors' code and OpenOOD take the sum, as here; pytorch-ood takes
    the mean and keeps p within [1e-7, 1 - 1e-7], which orders alike but for sure predictions: there it sees no difference.
    """

    of_one_label = True
    settings = GenSettings()
    needs = "nothing"
    use = "Logits alone, where `msp` is too coarse: it looks at all the large probabilities and amplifies small ones."
    gamma: float
    largest: int

    @classmethod
    def fit(cls, training: Training) -> Gen:
        settings, classes = training.settings_of(cls), training.logits.shape[1]
        if classes < 2:
            raise NotApplicable("the prediction among one class has no entropy")
        return cls(settings.gamma, min(settings.largest, classes))

    def reference(self, logits: Features, penultimate: Features) -> Score:
        f = -np.sort(-np.asarray(logits, dtype=np.float64), axis=1)
        logs = f - f[:, :1]
        rest = np.exp(logs[:, 1:]).sum(axis=1, keepdims=True)  # of the probabilities but the first, relative to it
        p = np.exp(logs) / (1 + rest)
        others = np.concatenate([rest / (1 + rest), 1 - p[:, 1:]], axis=1)  # 1 - p, without cancellation
        return np.asarray(-((p * others)[:, : self.largest] ** self.gamma).sum(axis=1))

    def build(self, g: Graph, logits: str, penultimate: str) -> str:
        """(p (1 - p))^gamma is exp(gamma (log p + log(1 - p))), in which small p don't underflow.

        For the largest, log(1 - p) is that of the sum of the others, taken relative to the second largest: the largest
        itself adds one to that sum, and the second another, so that no digits are lost when it is taken off.
        """
        top = g.op("TopK", logits, g.constant(np.array([self.largest])), axis=1)
        first, second = (g.op("Gather", top, g.constant(np.array([rank])), axis=1) for rank in (0, 1))
        log_sum = g.op("Log", g.reduce("ReduceSum", g.op("Exp", g.op("Sub", logits, first))))
        capped = g.op("Exp", g.op("Min", g.op("Sub", logits, second), 0.0))
        log_rest = g.op("Log", g.op("Sub", g.reduce("ReduceSum", capped), 1.0))
        gap = g.op("Sub", second, first)
        log_first = g.op("Sub", g.op("Add", gap, log_rest), g.op("Add", log_sum, log_sum))
        below = g.op("Gather", top, g.constant(np.arange(1, self.largest)), axis=1)
        log_p = g.op("Sub", g.op("Sub", below, first), log_sum)
        log_below = g.op("Add", log_p, g.op("Log", g.op("Sub", 1.0, g.op("Exp", log_p))))
        terms = (g.op("Exp", g.op("Mul", log, self.gamma)) for log in (log_first, log_below))
        return g.op("Neg", g.op("Add", next(terms), g.reduce("ReduceSum", next(terms))))
