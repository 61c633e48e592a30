"""KL divergence of the prediction from the uniform one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from export.detectors.base import build_max_probability
from export.detectors.interface import Features, Fitted, Score, Training
from export.graph.building import Graph


@dataclass(frozen=True)
class KlUniform(Fitted):
    """KL(u || softmax f) = logsumexp(f) - mean(f) - log K, u uniform over K classes; at least 0.

    Hendrycks et al. 2019, arXiv:1906.12340; the "KL" of NAN's tables 1 and 3. Higher where the prediction is farther
    from uniform, so more in-distribution. O(K); shares the softmax of `msp`.
    """

    of_one_label = True
    needs = "nothing"
    use = "Like `energy`, without its dependence on the logits' common offset."
    classes: int

    @classmethod
    def fit(cls, training: Training) -> KlUniform:
        return cls(training.logits.shape[1])

    def reference(self, logits: Features, penultimate: Features) -> Score:
        f = np.asarray(logits, dtype=np.float64)
        f = f - f.max(axis=1, keepdims=True)
        return np.asarray(np.log(np.exp(f).sum(axis=1)) - f.mean(axis=1) - math.log(self.classes))

    def build(self, g: Graph, logits: str, penultimate: str) -> str:
        mean = g.reduce("ReduceMean", g.op("Sub", logits, g.reduce("ReduceMax", logits)))
        log_top = g.op("Add", g.op("Log", build_max_probability(g, logits)), math.log(self.classes))
        return g.op("Neg", g.op("Add", log_top, mean))
