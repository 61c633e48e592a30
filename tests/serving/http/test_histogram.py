"""The calibration histogram against counting by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from runtime.bundle import Bundle
from runtime.manifest import Calibration, ClassPoint, Manifest, OrderStatistics
from serving.histogram import calibration_histogram


def with_calibration(manifest: Manifest, calibration: Calibration, classes: dict[str, ClassPoint]) -> Manifest:
    assert manifest.gate
    gate = replace(manifest.gate, n_calibration=calibration.n, class_conditional=bool(classes), classes=classes)
    return replace(manifest, gate=gate, calibration=calibration)


def test_every_calibration_image_counts_once(shared_bundle: Bundle) -> None:
    manifest = shared_bundle.manifest
    assert manifest.gate
    assert manifest.calibration
    scores = manifest.calibration.quantiles[manifest.gate.score]
    histogram = calibration_histogram(manifest)
    assert histogram
    edges = histogram["edges"]
    assert (edges[0], edges[-1]) == (min(scores), max(scores))
    last = len(edges) - 2
    expected = [
        sum(low <= score < high or (score == high and i == last) for score in scores)
        for i, (low, high) in enumerate(pairwise(edges))
    ]
    assert histogram["counts"] == expected
    assert sum(expected) == manifest.calibration.n
    assert histogram["classes"] == {}


def test_images_between_two_stored_ranks_and_classes_of_their_own(shared_bundle: Bundle) -> None:
    """Ranks 1, 2, 10 of ten images: one at 0, one at 1, and eight that count at 48."""
    manifest = shared_bundle.manifest
    quantiles = dict.fromkeys(manifest.scores, (0.0, 1.0, 48.0))
    cats = OrderStatistics(4, (1, 4), (1.0, 2.5))
    calibration = Calibration(10, (1, 2, 10), quantiles, {"cat": cats})
    point = ClassPoint(4, 1.0, (0.5, 1.0), 0.9)
    manifest = replace(manifest, gate=replace(manifest.gate, operating_points=()))  # type: ignore[type-var]
    histogram = calibration_histogram(with_calibration(manifest, calibration, {"cat": point}))
    assert histogram
    assert histogram["edges"] == pytest.approx(np.arange(49.0))
    assert histogram["counts"] == [1, 1, *[0] * 45, 8]
    assert histogram["classes"] == {"cat": [0, 1, 3, *[0] * 45]}


def test_scores_that_are_all_the_same(shared_bundle: Bundle) -> None:
    manifest = shared_bundle.manifest
    calibration = Calibration(3, (1, 2, 3), dict.fromkeys(manifest.scores, (2.0, 2.0, 2.0)))
    histogram = calibration_histogram(with_calibration(manifest, calibration, {}))
    assert histogram
    assert sum(histogram["counts"]) == 3
    assert histogram["edges"][0] < 2 < histogram["edges"][-1]


def test_no_gate(shared_bundle: Bundle) -> None:
    assert calibration_histogram(replace(shared_bundle.manifest, gate=None)) is None
