"""Mahalanobis distance to the nearest class mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from export.detectors.distances.features import check_variance, scatter, whitening
from export.detectors.interface import Array, Features, Fitted, Score, Training, float64_rows
from export.graph import Graph


@dataclass(frozen=True)
class Mahalanobis(Fitted):
    """-min_k (a - m_k)' P (a - m_k), m_k the class means and P the inverse of the covariance within classes.

    Lee et al. 2018, arXiv:1807.03888, eq. 1-2, on the penultimate features alone: no input perturbation and no ensemble of
    layers. P is a pseudo-inverse where the covariance is singular (:func:`export.detectors.distances.features.whitening`).
    At most 0; higher, that is nearer, is more in-distribution. O(D^2 + K D).
    """

    needs = "labels"
    use = (
        "Where each class is one cloud of features and labels are at hand; features of very different "
        "lengths, as LogitNorm leaves, spoil it."
    )
    origin: Array  # (D,), the mean of the class means
    means: Array  # (K', D), of the classes with images, from the origin, whitened (K', r)
    whitening: Array  # (D, r)

    @classmethod
    def fit(cls, training: Training) -> Mahalanobis:
        features = training.penultimate
        _, members, counts = np.unique(training.labels, return_inverse=True, return_counts=True)
        means = np.zeros((len(counts), features.shape[1]))
        for rows, a in float64_rows(features):
            np.add.at(means, members[rows], a)
        means /= counts[:, None]
        covariance = scatter(a - means[members[rows]] for rows, a in float64_rows(features)) / len(features)
        magnitude = np.sqrt(np.diag(covariance) + (counts[:, None] * means**2).sum(axis=0) / len(features))
        whiten = whitening(covariance, magnitude)
        check_variance(whiten)
        origin = means.mean(axis=0)
        return cls(origin, (means - origin) @ whiten, whiten)

    def reference(self, logits: Features, penultimate: Features) -> Score:
        z = (np.asarray(penultimate, dtype=np.float64) - self.origin) @ self.whitening
        distances = np.stack([((z - mean) ** 2).sum(axis=1) for mean in self.means])
        return np.asarray(-distances.min(axis=0))

    def build(self, g: Graph, logits: str, penultimate: str) -> str:
        """The nearest mean is found by z m - ||m||^2 / 2, whose rounding does not matter, the distance by subtraction."""
        means = g.float32(self.means)
        z = g.op("MatMul", g.op("Sub", penultimate, g.float32(self.origin)), g.float32(self.whitening))
        half_squares = g.float32(-0.5 * (self.means**2).sum(axis=1))
        nearest = g.op("ArgMax", g.op("Gemm", z, means, half_squares, transB=1), axis=1, keepdims=0)
        return g.op("Neg", g.reduce("ReduceSumSquare", g.op("Sub", z, g.op("Gather", means, nearest, axis=0))))
