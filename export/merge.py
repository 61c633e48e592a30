"""Merged scores in the graph: the p-values of several scores as one more column of ``scores``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx

from export import conformal, head
from export.graph import Graph
from runtime.exceptions import CalibrationError
from runtime.manifest import Merged, MergeMethod, PValueCurve

# Knots of a p-value curve, at geometrically spaced ranks: the relative step of p is the same everywhere.
KNOTS = 256


def fit(scores: npt.NDArray[np.float32], names: Sequence[str], method: MergeMethod) -> Merged:
    """P-value curves from the scores of reference images.

    Args:
        scores: float32 (n, P), of in-distribution images that will not set the threshold: only then is the merged score
            a fixed function of the images that do, and split conformal prediction holds for it as for any score.
        names: keys of the P scores.
        method: how p-values are merged (:func:`export.detectors.merged.merge`).

    Raises:
        CalibrationError: no images, or scores that are not finite.
    """
    if not len(scores):
        raise CalibrationError("no images to take the p-values of merged scores from")
    conformal.check_finite(scores)
    curves = {name: _curve(np.sort(scores[:, column])) for column, name in enumerate(names)}
    return Merged(method, len(scores), curves)


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


def attach(model: onnx.ModelProto, scores: Sequence[str], merged: Merged) -> None:
    """Append the merged score to the columns of ``scores``; the gate then has no threshold.

    Args:
        model: with a score head.
        scores: names of its columns, in order.
        merged: how some of them are merged.
    """
    tensors = head.columns(model)
    g = Graph(model)
    p = [_p_values(g, tensors[list(scores).index(name)], curve) for name, curve in merged.parts.items()]
    if merged.method == "min":
        column = g.op("Mul", g.op("Min", *p), float(len(p)))
    else:
        column = g.op("Div", float(len(p)), g.op("Sum", *(g.op("Div", 1.0, value) for value in p)))
    head.set_columns(model, [*tensors, column])


def _p_values(g: Graph, score: str, curve: PValueCurve) -> str:
    """A score [N, 1] on its curve: the sum of what it climbs in each interval between knots, and the tail below."""
    knots, heights = np.array(curve.knots, np.float32), np.array(curve.heights, np.float64)
    under = g.op("Relu", g.op("Sub", float(knots[0]), score))
    p = g.op("Div", float(heights[0]), g.op("Add", g.op("Div", under, curve.tail), 1.0))
    if len(knots) == 1:
        return p
    passed = g.op("Div", g.op("Sub", score, g.constant(knots[None, :-1])), g.constant(np.diff(knots)[None]))
    share = g.op("Clip", passed, 0.0, 1.0)
    climbed = g.op("Mul", share, g.constant(np.diff(heights).astype(np.float32)[None]))
    return g.op("Add", p, g.reduce("ReduceSum", climbed))
