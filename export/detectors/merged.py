"""Merged scores: the p-values of several scores as one, the float64 reference for what the exported graph computes.

A p-value here is a fixed, continuous function of a score, made from reference images (:func:`export.merge.fit`). It is
no conformal p-value by itself: the promise comes from calibrating the merged score, on other images, like any score.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from runtime.manifest import Merged, PValueCurve

Score = npt.NDArray[np.float64]


def p_values(scores: npt.NDArray[np.floating], curve: PValueCurve) -> Score:
    """The p-values of scores (N,), float64 (N,) in [0, 1].

    Linear between the knots, where it is the reference images' conformal p-value, and the last height above them.
    Below the first knot q it falls as h / (1 + (q - s) / tail): without ties, so that a threshold can lie there.
    """
    s = np.asarray(scores, dtype=np.float64)
    knots = np.array(curve.knots, dtype=np.float32).astype(np.float64)  # as scores are
    below = curve.heights[0] / (1 + np.maximum(knots[0] - s, 0) / curve.tail)
    return np.asarray(below + np.interp(s, knots, curve.heights) - curve.heights[0])


def merge(scores: Mapping[str, npt.NDArray[np.floating]], merged: Merged) -> Score:
    """The merged score (N,) of P scores, each (N,); higher is more in-distribution.

    ``min``: P min_i p_i, Bonferroni's p-value, not capped at 1 so that it still ranks the most typical images.
    ``harmonic``: P / sum_i 1 / p_i, the harmonic mean (Wilson 2019; Vovk & Wang 2020).
    """
    p = np.stack([p_values(scores[name], curve) for name, curve in merged.parts.items()])
    if merged.method == "min":
        return np.asarray(len(p) * p.min(axis=0))
    with np.errstate(divide="ignore"):  # a p-value of 0 merges to 0
        return np.asarray(len(p) / (1 / p).sum(axis=0))
