"""Mahalanobis distance to the nearest class mean, of the features as they are or on the unit sphere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from export.detectors.distances.features import build_unit, check_variance, scatter, unit, whitening
from export.detectors.interface import Array, Features, Fitted, Score, Training, chunks
from export.exceptions import NotApplicable
from export.graph.building import Graph
from train.data import Labels


def having(labels: Labels) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Each image with each of its labels, as positions of the images, ascending, and classes.

    Args:
        labels: int64 (n,), or multi-hot bool (n, K).
    """
    if labels.ndim == 1:
        return np.arange(len(labels)), np.asarray(labels, np.int64)
    images, classes = np.nonzero(labels)
    return images, classes


@dataclass(frozen=True)
class Mahalanobis(Fitted):
    """-min_k (a - m_k)' P (a - m_k), m_k the class means and P the inverse of the covariance within classes.

    Lee et al. 2018, arXiv:1807.03888, eq. 1-2, on the penultimate features alone: no input perturbation and no ensemble of
    layers. Where images have several labels each counts once for each of its own, in the label's mean and in the
    covariance, and one without labels not at all, as in the code of Wang et al. 2021 (arXiv:2109.14162). P is a
    pseudo-inverse where the covariance is singular (:func:`export.detectors.distances.features.whitening`).
    At most 0; higher, that is nearer, is more in-distribution. O(D^2 + K D). Without classes all images are one.
    """

    normalised: ClassVar[bool] = False
    of_features = True
    needs = "labels"
    use = (
        "Where each class is one cloud of features and labels are at hand; features of very different "
        "lengths, as LogitNorm leaves, spoil it."
    )
    origin: Array  # (D,), the mean of the class means
    means: Array  # (K', D), of the classes with images, from the origin, whitened (K', r)
    whitening: Array  # (D, r)

    @classmethod
    def fit(cls, training: Training) -> Self:
        return cls.of(training.penultimate, training.labels)

    @classmethod
    def of(cls, features: Features, labels: Labels) -> Self:
        """The Gaussians of features (n, D) in classes (n,), or with multi-hot labels (n, K)."""
        images, classes = having(labels)
        _, members, counts = np.unique(classes, return_inverse=True, return_counts=True)
        if counts.max(initial=0) < 2:
            raise NotApplicable("no class has two training images, so nothing varies within a class: give more of each")
        means = np.zeros((len(counts), features.shape[1]))
        for rows in chunks(len(images)):
            np.add.at(means, members[rows], cls._seen(features[images[rows]]))
        means /= counts[:, None]
        residuals = (cls._seen(features[images[rows]]) - means[members[rows]] for rows in chunks(len(images)))
        covariance = scatter(residuals) / len(images)
        magnitude = np.sqrt(np.diag(covariance) + (counts[:, None] * means**2).sum(axis=0) / len(images))
        whiten = whitening(covariance, magnitude)
        check_variance(whiten)
        origin = means.mean(axis=0)
        return cls(origin, (means - origin) @ whiten, whiten)

    @classmethod
    def _seen(cls, features: Features) -> Array:
        return unit(features) if cls.normalised else np.asarray(features, dtype=np.float64)

    def reference(self, logits: Features, penultimate: Features) -> Score:
        z = (self._seen(penultimate) - self.origin) @ self.whitening
        distances = np.stack([((z - mean) ** 2).sum(axis=1) for mean in self.means])
        return np.asarray(-distances.min(axis=0))

    def build(self, g: Graph, logits: str, penultimate: str) -> str:
        """The nearest mean is found by z m - ||m||^2 / 2, whose rounding does not matter, the distance by subtraction."""
        seen = build_unit(g, penultimate) if self.normalised else penultimate
        z = g.op("MatMul", g.op("Sub", seen, g.float32(self.origin)), g.float32(self.whitening))
        if len(self.means) == 1:  # which is the origin
            return g.op("Neg", g.reduce("ReduceSumSquare", z))
        means = g.float32(self.means)
        half_squares = g.float32(-0.5 * (self.means**2).sum(axis=1))
        nearest = g.op("ArgMax", g.op("Gemm", z, means, half_squares, transB=1), axis=1, keepdims=0)
        return g.op("Neg", g.reduce("ReduceSumSquare", g.op("Sub", z, g.op("Gather", means, nearest, axis=0))))


class MahalanobisPlusPlus(Mahalanobis):
    """`mahalanobis` of z = a / ||a||_2: means, covariance and distance on the unit sphere.

    Müller & Hein 2025, arXiv:2505.18032, eq. 5, where it is Mahalanobis++. At most 0; higher is more in-distribution.
    O(D^2 + K D).
    """

    normalised = True
    use = "The first distance to try: what spoils `mahalanobis`, features of very different lengths, is divided out."


@dataclass(frozen=True)
class Rmds(Fitted):
    """-min_k (d_k(a) - d_0(a)), d_k the distances of `mahalanobis` and d_0 that to one Gaussian over all images.

    Ren et al. 2021, arXiv:2106.09022, eq. 2: what all images have in common is taken off. Either sign; higher is more
    in-distribution. O(D^2 + K D); shares the distance with `mahalanobis`. Both covariances are means over the images, as
    in OpenOOD; pytorch-ood 0.4.0 takes sums, which divides both distances by n and orders alike.
    """

    kind: ClassVar[type[Mahalanobis]] = Mahalanobis
    needs = "labels"
    parts = (Mahalanobis,)
    use = "For near-OOD images with many classes, where `mahalanobis` is dominated by directions that all images share."
    nearest: Mahalanobis
    background: Mahalanobis  # of one class

    @classmethod
    def fit(cls, training: Training) -> Self:
        if len(np.unique(having(training.labels)[1])) == 1:
            raise NotApplicable("of images of one class alone the distances are the same, and their difference is 0")
        background = cls.kind.of(training.penultimate, np.zeros(len(training.penultimate), np.int64))
        return cls(training.fit(cls.kind), background)

    def reference(self, logits: Features, penultimate: Features) -> Score:
        return self.nearest.reference(logits, penultimate) - self.background.reference(logits, penultimate)

    def build(self, g: Graph, logits: str, penultimate: str) -> str:
        return g.op("Sub", self.nearest.build(g, logits, penultimate), self.background.build(g, logits, penultimate))


class RmdsPlusPlus(Rmds):
    """`rmds` of z = a / ||a||_2, with the distances of `mahalanobis++`.

    Müller & Hein 2025, arXiv:2505.18032, section 5, where it is relative Mahalanobis++. Either sign; higher is more
    in-distribution. O(D^2 + K D).
    """

    kind = MahalanobisPlusPlus
    parts = (MahalanobisPlusPlus,)
    use = "The same for features of very different lengths."
