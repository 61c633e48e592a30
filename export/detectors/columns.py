"""Detectors as the columns of a graph's ``scores``: attached to it, and compared with their float64 references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx

from export.detectors.interface import Array, Detector, Features
from export.graph import head
from export.graph.building import LOGITS, PENULTIMATE, Graph

_ROUNDING = 1e-9  # of the largest score: below it is what rounding leaves of zero


def attach(
    model: onnx.ModelProto,
    detectors: Mapping[str, Detector],
    present: Sequence[str] = (),
    wanted: Sequence[str] | None = None,
) -> tuple[str, ...]:
    """Append columns to ``scores``, instead of those of the same names; the gate then has no threshold.

    Args:
        model: with the outputs ``logits`` [N, K] and ``penultimate`` [N, D]; edited in place.
        detectors: by the names of their columns.
        present: names of the columns that there are, in order; none in a graph that has no scores yet.
        wanted: names of the columns that there shall be, in another order or without some of them.

    Returns:
        the names of all columns, in order.
    """
    g = Graph(model)
    built = {name: detector.build(g, LOGITS, PENULTIMATE) for name, detector in detectors.items()}
    names = (*(name for name in present if name not in built), *built) if wanted is None else tuple(wanted)
    if not present:
        head.create(g, [built[name] for name in names])
    else:
        tensors = {**dict(zip(present, head.columns(model), strict=True)), **built}
        head.set_columns(model, [tensors[name] for name in names])
    return names


def verify(
    detectors: Mapping[str, Detector], scores: npt.NDArray[np.float32], logits: Features, penultimate: Features
) -> tuple[Array, dict[str, float]]:
    """The float64 references, and the largest difference from them of each column of a graph's scores.

    A difference is relative to the reference's magnitude, or to its median magnitude where it is smaller than that: a
    score that is a difference of two terms passes through zero. Where most are zero but for rounding, as distances of
    training images to themselves, it is relative to 1e-9 of the largest.

    Args:
        detectors: S of them.
        scores: their columns (N, S).
        logits, penultimate: (N, K) and (N, D), which the references are computed from.
    """
    expected = np.stack([detector.reference(logits, penultimate) for detector in detectors.values()], axis=1)
    magnitude = np.abs(expected)
    least = np.maximum(np.median(magnitude, axis=0), _ROUNDING * magnitude.max(axis=0))
    scale = np.maximum(magnitude, least) + np.finfo(np.float32).tiny
    found = (np.abs(scores - expected) / scale).max(axis=0)
    return expected, dict(zip(detectors, found.tolist(), strict=True))
