"""SSD: Mahalanobis distance to the nearest cluster of normalised features; needs no labels."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from export.detectors.distances.features import build_unit, check_variance, deviations, scatter, unit, whitening
from export.detectors.interface import Array, Features, Fitted, Score, Training, float64_rows
from export.exceptions import ExportError
from export.graph.building import Graph


@dataclass(frozen=True)
class SsdSettings:
    """Attributes:
    clusters: of k-means; 1 is what the paper uses, after finding more to be worse (section 5).
    """

    clusters: int = 1

    def __post_init__(self) -> None:
        if self.clusters < 1:
            raise ValueError(f"clusters must be at least 1, found {self.clusters}")


@dataclass(frozen=True)
class Ssd(Fitted):
    """-min_m (z - m_m)' P_m (z - m_m), z = a / ||a||_2, m_m and P_m mean and inverse covariance of a k-means cluster.

    Sehwag et al. 2021, arXiv:2103.12051, eq. 3. The clusters are found in features divided by their standard deviations,
    as in the authors' code. A cluster with fewer directions of variance than all together, because it has few images,
    takes the covariance within all clusters; P_m is a pseudo-inverse where that is singular
    (:func:`export.detectors.distances.features.whitening`). At most 0; higher, that is nearer, is more in-distribution.
    O(M D^2) for M clusters.
    """

    of_features = True
    settings = SsdSettings()
    use = "For unknown images of another kind altogether, without labels and without a bank; far cheaper than `knn`."
    origin: Array  # (D,)
    whitening: Array  # (D, M * r), of each cluster
    means: Array  # (M * r,), whitened, from the origin
    clusters: int  # M

    @classmethod
    def fit(cls, training: Training) -> Ssd:
        features, clusters = training.penultimate, training.settings_of(cls).clusters
        if clusters > len(features):
            raise ExportError(f"ssd.clusters={clusters} are more than the {len(features)} training images")
        origin = sum(unit(a).sum(axis=0) for _, a in float64_rows(features)) / len(features)
        magnitude = np.sqrt(sum((unit(a) ** 2).sum(axis=0) for _, a in float64_rows(features)) / len(features))
        members = _clusters(features, origin, magnitude, clusters, training.seed)
        sizes = np.bincount(members)
        means = np.zeros((len(sizes), features.shape[1]))
        for rows, a in float64_rows(features):
            np.add.at(means, members[rows], unit(a) - origin)
        means /= sizes[:, None]

        def residuals(cluster: int) -> Array:
            own = features[members == cluster]
            return scatter(unit(a) - origin - means[cluster] for _, a in float64_rows(own))

        scatters = [residuals(cluster) for cluster in range(len(sizes))]
        pooled = whitening(np.asarray(sum(scatters) / len(features)), magnitude)
        check_variance(pooled)
        whitenings = []
        for own, size in zip(scatters, sizes, strict=True):
            candidate = whitening(own / size, magnitude)
            whitenings.append(candidate if candidate.shape[1] == pooled.shape[1] else pooled)
        whitened = [mean @ w for mean, w in zip(means, whitenings, strict=True)]
        return cls(origin, np.concatenate(whitenings, axis=1), np.concatenate(whitened), len(sizes))

    def reference(self, logits: Features, penultimate: Features) -> Score:
        difference = (unit(penultimate) - self.origin) @ self.whitening - self.means
        return np.asarray(-(difference.reshape(len(difference), self.clusters, -1) ** 2).sum(axis=2).min(axis=1))

    def build(self, g: Graph, logits: str, penultimate: str) -> str:
        centred = g.op("Sub", build_unit(g, penultimate), g.float32(self.origin))
        difference = g.op("Sub", g.op("MatMul", centred, g.float32(self.whitening)), g.float32(self.means))
        shape = g.constant(np.array([-1, self.clusters, len(self.means) // self.clusters]))
        squares = g.op("ReduceSumSquare", g.op("Reshape", difference, shape), g.constant(np.array([2])), keepdims=0)
        return g.op("Neg", g.reduce("ReduceMin", squares))


def _clusters(
    features: npt.NDArray[np.float32], origin: Array, magnitude: Array, clusters: int, seed: int
) -> npt.NDArray[np.int64]:
    """The cluster (n,) of each image; numbered without gaps, though some may be fewer than asked for."""
    if clusters == 1:
        return np.zeros(len(features), dtype=np.int64)
    deviation = deviations(np.maximum(magnitude**2 - origin**2, 0), magnitude)
    scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0)
    standard = np.concatenate([((unit(a) - origin) * scale).astype(np.float32) for _, a in float64_rows(features)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct features than clusters
        found = KMeans(clusters, n_init=1, random_state=seed).fit_predict(standard)
    return np.asarray(np.unique(found, return_inverse=True)[1], dtype=np.int64)
