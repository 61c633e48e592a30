"""Outputs that are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.observed import cached
from runtime.engines.interface import Outputs


class Counting:
    """An engine that counts its batches."""

    name = "counting"
    runs = 0

    def run(self, images: np.ndarray, *, penultimate: bool = False) -> Outputs:
        self.runs += 1
        ones = np.ones((len(images), 2), np.float32)
        return Outputs(ones, 2 * ones, penultimate=3 * ones if penultimate else None)


def test_outputs_are_kept(tmp_path: Path) -> None:
    engine, images = Counting(), np.zeros((2, 4, 4, 3), np.uint8)
    for _ in range(2):
        found = cached(engine, tmp_path / "new")("known", lambda: images)
        assert [part.tolist() for part in (found.logits, found.scores, np.asarray(found.penultimate))] == [
            [[value] * 2] * 2 for value in (1, 2, 3)
        ]
    assert engine.runs == 1
    cached(engine, None)("known", lambda: images)
    assert engine.runs == 2
