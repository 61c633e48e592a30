"""The gate: decisions equal the graph's, and everything unusual rejects or raises."""

from __future__ import annotations

import numpy as np

from runtime import Gate
from runtime.bundle import Bundle
from tests.small import calibration_images


def test_decides_as_the_graph_says(shared_bundle: Bundle) -> None:
    gate = Gate.load(shared_bundle.path, threads=1)
    images = calibration_images(200, seed=2)
    decisions = gate.decide(images)
    accept = gate.engine.run(images).accept
    assert [d.decision == "accept" for d in decisions] == accept.tolist()
    assert 0.8 < np.mean(accept) < 1
