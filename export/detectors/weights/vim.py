"""ViM: the energy less a virtual logit, the part of the features that lies outside of the principal subspace."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from export.detectors.base import Energy
from export.detectors.distances.features import scatter
from export.detectors.interface import Array, Features, Fitted, Score, Training, float64_rows
from export.exceptions import ExportError
from export.graph.building import Graph

# Variances below this share of the largest are rounding, so not part of the rank.
_SMALLEST_VARIANCE = 1e-12


@dataclass(frozen=True)
class VimSettings:
    """Attributes:
    dims: of the principal subspace; 0 takes the paper's, 1000 where D >= 2048 and 512 where D >= 768, and D / 2 for fewer
        features (the paper has none).
    """

    dims: int = 0

    def __post_init__(self) -> None:
        if self.dims < 0:
            raise ValueError(f"dims must not be negative, found {self.dims}")


@dataclass(frozen=True)
class Vim(Fitted):
    """logsumexp(f) - alpha ||R' (a - o)||_2: R (D, D - dims) spans the complement of the principal subspace.

    Wang et al. 2022, arXiv:2203.10807, section 4: o = -pinv(W) b, the principal subspace is that of the training features
    seen from o, and alpha matches the mean residual to the mean largest logit (to its magnitude, should it be negative).
    The score orders images as the paper's virtual-class probability does. Where the training features span no more
    than dims directions (few images, constant features), the subspace has half as many as they span. Higher is more
    in-distribution. O(D^2). Needs a plain linear last layer.
    """

    settings = VimSettings()
    linear = True
    use = (
        "Where unknown images leave the subspace of the known features, which it adds to `energy`; needs "
        "features of similar length too."
    )
    origin: Array  # (D,)
    residual: Array  # (D, D - dims), times alpha

    @classmethod
    def fit(cls, training: Training) -> Vim:
        weights, bias = training.layers.linear()
        features = training.penultimate
        origin = -np.linalg.pinv(weights) @ bias
        size = features.shape[1]
        dims = training.settings_of(cls).dims or _default_dims(size)
        if dims >= size:
            raise ExportError(f"vim.dims={dims} leave nothing of {size} features; choose fewer")
        variances, directions = np.linalg.eigh(scatter(a - origin for _, a in float64_rows(features)))
        rank = int((variances > _SMALLEST_VARIANCE * variances[-1]).sum())
        dims = dims if dims < rank else rank // 2
        residual = directions[:, : size - dims]
        norms = [np.linalg.norm((a - origin) @ residual, axis=1) for _, a in float64_rows(features)]
        top = np.abs(training.logits.max(axis=1).mean(dtype=np.float64))
        mean = np.concatenate(norms).mean()
        if not mean > 0:
            raise ExportError("vim: the features of the training images are all the same")
        return cls(origin, residual * (top / mean))

    def reference(self, logits: Features, penultimate: Features) -> Score:
        virtual = (np.asarray(penultimate, dtype=np.float64) - self.origin) @ self.residual
        return np.asarray(Energy().reference(logits, penultimate) - np.linalg.norm(virtual, axis=1))

    def build(self, g: Graph, logits: str, penultimate: str) -> str:
        virtual = g.op("MatMul", g.op("Sub", penultimate, g.float32(self.origin)), g.float32(self.residual))
        return g.op("Sub", Energy().build(g, logits, penultimate), g.reduce("ReduceL2", virtual))


def _default_dims(features: int) -> int:
    return 1000 if features >= 2048 else 512 if features >= 768 else features // 2
