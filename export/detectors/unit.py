"""Features on the unit sphere."""

from __future__ import annotations

import numpy as np

from export.detectors.interface import Array, Features
from export.graph import Graph

_SMALLEST = 1e-12


def unit(features: Features) -> Array:
    """a / ||a||_2 of rows (N, D), in float64; a row of zeros stays one."""
    a = np.asarray(features, dtype=np.float64)
    return np.asarray(a / np.maximum(np.linalg.norm(a, axis=1, keepdims=True), _SMALLEST))


def build_unit(g: Graph, features: str) -> str:
    """The same in the graph."""
    return g.op("Div", features, g.op("Max", g.reduce("ReduceL2", features), _SMALLEST))
