"""All detectors can be timed: also those whose settings outliers choose, and those with a bank."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import detector_cost
from benchmarks.detector_cost import alone, banks, contestant, in_turns
from export.detectors import DETECTORS
from export.detectors.base import BASE
from export.graph import head
from tests.export.detectors.graphs import random


def test_every_detector_is_timed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in {"BANK": 400, "FITTED_ON": 300, "FEATURES": 16, "_BLOCK": 1e-6}.items():
        monkeypatch.setattr(detector_cost, name, size)
    model = random(features=16).model
    detector_cost.with_detectors(model, list(DETECTORS))
    columns = dict(zip((*BASE, *DETECTORS), head.columns(model), strict=True))
    features = np.ones((4, 16), np.float32)
    feeds = {"x": features, "penultimate": features, "logits": np.ones((4, 10), np.float32)}
    contestants = {name: contestant(alone(model, [tensor]), feeds, 1) for name, tensor in columns.items()}
    times = in_turns(contestants, 2, "detectors")
    assert set(times) == {*BASE, *DETECTORS}
    assert all(len(values) == 2 and min(values) > 0 for values in times.values())
    assert {name for name, kind in DETECTORS.items() if banks(kind)} == {"knn", "nnguide", "nan_knn", "nan_react_knn"}
    rows = [tensor.dims[0] for tensor in model.graph.initializer if list(tensor.dims[1:]) == [16]]
    assert rows.count(400) >= 2
