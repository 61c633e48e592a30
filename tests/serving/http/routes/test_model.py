"""The calibration histogram against counting by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from runtime.bundle import Bundle
from runtime.manifest import Calibration, ClassPoint, GateSpec, OrderStatistics
from serving.http.routes.model import calibration_histogram


def gate_of(bundle: Bundle) -> GateSpec:
    assert bundle.manifest.gate
    return bundle.manifest.gate


def with_calibration(gate: GateSpec, calibration: Calibration, classes: dict[str, ClassPoint]) -> GateSpec:
    return replace(
        gate,
        n_calibration=calibration.n,
        class_conditional=bool(classes),
        classes=classes,
        operating_points=(),
        calibration=calibration,
    )


def test_every_calibration_image_counts_once(shared_bundle: Bundle) -> None:
    gate = gate_of(shared_bundle)
    scores = gate.calibration.quantiles[gate.score]
    histogram = calibration_histogram(gate)
    edges = histogram["edges"]
    assert (edges[0], edges[-1]) == (min(scores), max(scores))
    last = len(edges) - 2
    expected = [
        sum(low <= score < high or (score == high and i == last) for score in scores)
        for i, (low, high) in enumerate(pairwise(edges))
    ]
    assert histogram["counts"] == expected
    assert sum(expected) == gate.calibration.n
    assert histogram["classes"] == {}


def test_images_between_two_stored_ranks_and_classes_of_their_own(shared_bundle: Bundle) -> None:
    """Ranks 1, 2, 10 of ten images: one at 0, one at 1, and eight that count at 48."""
    quantiles = dict.fromkeys(shared_bundle.manifest.scores, (0.0, 1.0, 48.0))
    cats = OrderStatistics(4, (1, 4), (1.0, 2.5))
    calibration = Calibration(10, (1, 2, 10), quantiles, {"cat": cats})
    point = ClassPoint(4, 1.0, (0.5, 1.0), 0.9)
    histogram = calibration_histogram(with_calibration(gate_of(shared_bundle), calibration, {"cat": point}))
    assert histogram["edges"] == pytest.approx(np.arange(49.0))
    assert histogram["counts"] == [1, 1, *[0] * 45, 8]
    assert histogram["classes"] == {"cat": [0, 1, 3, *[0] * 45]}


def test_scores_that_are_all_the_same(shared_bundle: Bundle) -> None:
    calibration = Calibration(3, (1, 2, 3), dict.fromkeys(shared_bundle.manifest.scores, (2.0, 2.0, 2.0)))
    histogram = calibration_histogram(with_calibration(gate_of(shared_bundle), calibration, {}))
    assert sum(histogram["counts"]) == 3
    assert histogram["edges"][0] < 2 < histogram["edges"][-1]
