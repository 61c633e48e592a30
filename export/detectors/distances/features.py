"""Features on the unit sphere; covariances, exact in float64, and the linear maps under which they become the identity."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from export.detectors.interface import Array, Features
from export.exceptions import ExportError
from export.graph.building import Graph

# Directions whose variance is below this share of the largest, in units of the features' standard deviations, are left
# out: float32 could not tell them from rounding.
_SMALLEST_VARIANCE = 1e-6
# A feature that varies by less than this share of its own magnitude is constant to float32.
_SMALLEST_DEVIATION = 1e-6
_SMALLEST_NORM = 1e-12


def unit(features: Features) -> Array:
    """a / ||a||_2 of rows (N, D), in float64; a row of zeros stays one."""
    a = np.asarray(features, dtype=np.float64)
    return np.asarray(a / np.maximum(np.linalg.norm(a, axis=1, keepdims=True), _SMALLEST_NORM))


def build_unit(g: Graph, features: str) -> str:
    """The same in the graph."""
    return g.op("Div", features, g.op("Max", g.reduce("ReduceL2", features), _SMALLEST_NORM))


def scatter(centred: Iterable[Array]) -> Array:
    """Sum of the outer products of rows (n, D), given in parts: (D, D)."""
    return np.asarray(sum(rows.T @ rows for rows in centred))


def deviations(variance: Array, magnitude: Array) -> Array:
    """Standard deviations (D,), 0 for a feature that is constant to float32.

    Args:
        variance: (D,).
        magnitude: (D,) root mean square of the features, not centred.
    """
    deviation = np.sqrt(variance)
    return np.where(deviation > _SMALLEST_DEVIATION * magnitude, deviation, 0.0)


def whitening(covariance: Array, magnitude: Array) -> Array:
    """W (D, r) such that ||(x - m) W||^2 is the Mahalanobis distance (x - m)' P (x - m).

    P is the inverse of the covariance where that exists and is well conditioned, otherwise a pseudo-inverse: constant
    features, and directions in which the training features don't vary, are left out. The features are first divided by
    their standard deviations, so that their units don't matter.

    Args:
        covariance: (D, D), of rank r.
        magnitude: (D,) root mean square of the features, not centred.

    Returns:
        (D, r); r = 0 where no feature varies.
    """
    deviation = deviations(np.diag(covariance), magnitude)
    scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0)
    variances, directions = np.linalg.eigh(covariance * scale * scale[:, None])
    kept = variances > max(_SMALLEST_VARIANCE * variances[-1], 0.0)
    return np.asarray(scale[:, None] * directions[:, kept] / np.sqrt(variances[kept]))


def check_variance(whiten: Array) -> None:
    """Raises ExportError where the features of which this is the whitening don't vary."""
    if not whiten.shape[1]:
        raise ExportError("the features of the training images don't vary, so they have no covariance")
