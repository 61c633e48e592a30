"""Merged scores: the p-values of several scores as one more.

A p-value here is a fixed, continuous function of a score, made from reference images (:func:`fit`). It is
no conformal p-value by itself: the guarantee comes from calibrating the merged score, on other images, like any score.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from export import conformal
from export.detectors.interface import Detector, Features, Score
from export.exceptions import ExportError
from export.graph.building import Graph
from runtime.exceptions import CalibrationError
from runtime.manifest import Merged, MergeMethod, PValueCurve

# Knots of a p-value curve, at geometrically spaced ranks: the relative step of p is the same everywhere.
KNOTS = 256

_PART = re.compile(r"[^+]+(?:\+\+)?")
_NAME = re.compile(rf"{_PART.pattern}(?:\+{_PART.pattern})*")


@dataclass(frozen=True)
class MergedScore(Detector):
    """P min_i p_i, P / sum_i 1 / p_i or sum_i log p_i of the p-values of P scores (:func:`merge`)."""

    merged: Merged
    parts: Mapping[str, Detector]

    def reference(self, logits: Features, penultimate: Features) -> Score:
        return merge({name: self.parts[name].reference(logits, penultimate) for name in self.merged.parts}, self.merged)

    def build(self, g: Graph, logits: str, penultimate: str) -> str:
        tensors = {name: self.parts[name].build(g, logits, penultimate) for name in self.merged.parts}
        p = [_build_p_values(g, tensors[name], curve) for name, curve in self.merged.parts.items()]
        if self.merged.method == "min":
            return g.op("Mul", g.op("Min", *p), float(len(p)))
        if self.merged.method == "fisher":
            return g.op("Sum", *(g.op("Log", value) for value in p))
        return g.op("Div", float(len(p)), g.op("Sum", *(g.op("Div", 1.0, value) for value in p)))


@dataclass(frozen=True)
class Column(Detector):
    """A part that the graph has already, whatever it was fitted on."""

    tensor: str  # (N, 1)

    def reference(self, logits: Features, penultimate: Features) -> Score:
        raise ExportError(f"{self.tensor}: what this column was fitted on is not in the file, so it has no reference")

    def build(self, g: Graph, logits: str, penultimate: str) -> str:
        return self.tensor


def parts(score: str) -> tuple[str, ...]:
    """The scores that a name stands for, joined by ``+``; one may end in ``++`` itself, as ``mahalanobis++`` does."""
    return tuple(_PART.findall(score) if _NAME.fullmatch(score) else score.split("+"))


def title(score: str, method: MergeMethod | None) -> str:
    """What a table of choices calls a score, merged by `method` or of one part."""
    return f"{score}, {method}" if method else score


def fit(scores: npt.NDArray[np.float32], names: Sequence[str], method: MergeMethod) -> Merged:
    """P-value curves from the scores of reference images.

    Args:
        scores: float32 (n, P), of in-distribution images that will not set the threshold: only then is the merged score
            a fixed function of the images that do, and split conformal prediction holds for it as for any score.
        names: keys of the P scores.
        method: how p-values are merged (:func:`merge`).

    Raises:
        CalibrationError: no images, or scores that are not finite.
    """
    if not len(scores):
        raise CalibrationError("no images to take the p-values of merged scores from")
    conformal.check_finite(scores)
    curves = {name: _curve(np.sort(scores[:, column])) for column, name in enumerate(names)}
    return Merged(method, len(scores), curves)


def merge(scores: Mapping[str, npt.NDArray[np.floating]], merged: Merged) -> Score:
    """The merged score (N,) of P scores, each (N,); higher is more in-distribution.

    ``min``: P min_i p_i, Bonferroni's p-value, not capped at 1 so that it still ranks the most typical images.
    ``harmonic``: P / sum_i 1 / p_i, the harmonic mean (Wilson 2019; Vovk & Wang 2020).
    ``fisher``: sum_i log p_i, Fisher's statistic (1925) over -2; what its distribution is for scores that are not
    independent does not matter here.
    """
    p = np.stack([p_values(scores[name], curve) for name, curve in merged.parts.items()])
    if merged.method == "min":
        return np.asarray(len(p) * p.min(axis=0))
    with np.errstate(divide="ignore"):  # a p-value of 0 merges to the lowest
        if merged.method == "fisher":
            return np.asarray(np.log(p).sum(axis=0))
        return np.asarray(len(p) / (1 / p).sum(axis=0))


def p_values(scores: npt.NDArray[np.floating], curve: PValueCurve) -> Score:
    """The p-values of scores (N,), float64 (N,) in [0, 1].

    Linear between the knots, where it is the reference images' conformal p-value, and the last height above them.
    Below the first knot q it falls as h / (1 + (q - s) / tail): without ties, so that a threshold can lie there.
    """
    s = np.asarray(scores, dtype=np.float64)
    knots = np.array(curve.knots, dtype=np.float32).astype(np.float64)  # as scores are
    below = curve.heights[0] / (1 + np.maximum(knots[0] - s, 0) / curve.tail)
    return np.asarray(below + np.interp(s, knots, curve.heights) - curve.heights[0])


def _build_p_values(g: Graph, score: str, curve: PValueCurve) -> str:
    """The same for a score [N, 1]: the sum of what it climbs in each interval between knots, and the tail below."""
    knots, heights = np.array(curve.knots, np.float32), np.array(curve.heights, np.float64)
    under = g.op("Relu", g.op("Sub", float(knots[0]), score))
    p = g.op("Div", float(heights[0]), g.op("Add", g.op("Div", under, curve.tail), 1.0))
    if len(knots) == 1:
        return p
    passed = g.op("Div", g.op("Sub", score, g.constant(knots[None, :-1])), g.constant(np.diff(knots)[None]))
    share = g.op("Clip", passed, 0.0, 1.0)
    climbed = g.op("Mul", share, g.constant(np.diff(heights).astype(np.float32)[None]))
    return g.op("Add", p, g.reduce("ReduceSum", climbed))


def _curve(ordered: npt.NDArray[np.float32]) -> PValueCurve:
    """The curve through the conformal p-values (1 + #{reference <= s}) / (n + 1) at the knots s."""
    n = len(ordered)
    ranks = np.unique(np.geomspace(1, n, KNOTS).round().astype(np.int64))
    knots = np.unique(ordered[ranks - 1])
    apart = np.append(True, np.diff(knots) >= np.finfo(np.float32).tiny)
    knots = knots[apart]
    heights = (1 + np.searchsorted(ordered, knots, side="right")) / (n + 1)
    scale = float(ordered[n // 2]) - float(knots[0])
    if not scale >= np.finfo(np.float32).tiny:
        scale = max(abs(float(knots[0])), 1.0)
    return PValueCurve(tuple(float(str(knot)) for knot in knots), tuple(heights.tolist()), float(np.float32(scale)))
