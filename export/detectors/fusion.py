"""NAN's fusion of a distance with the negative-aware norm."""

from __future__ import annotations

import numpy as np

from export import head
from export.detectors import base as scores
from export.detectors.interface import Features, Score
from export.graph import Graph

# Divides where no activation is positive, so that the score is low and not infinite.
_SMALLEST = 1e-12


def divide_by_nan(negated_distance: Score, penultimate: Features) -> Score:
    """-d / ||a||_NAN (NAN eq. 49, negated), of a negated distance (N,) and activations (N, D)."""
    return negated_distance / np.maximum(scores.nan(penultimate, penultimate), _SMALLEST)


def build_divide_by_nan(g: Graph, negated_distance: str, penultimate: str) -> str:
    """The same in the graph, (N, 1)."""
    return g.op("Div", negated_distance, g.op("Max", head.nan(g, penultimate), _SMALLEST))
