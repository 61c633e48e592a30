"""Differences between methods are of the same seed, near-OOD by itself, with an interval over the seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from benchmarks.methods_page import by_method_and_seed, effects, fpr95, paired


def run(near: float, far: float, accuracy: float) -> dict[str, Any]:
    detection = {
        name: {"scores": {"energy": {"fpr95_id_positive": value}}}
        for name, value in (("cifar100", near), ("textures", far))
    }
    evaluation = {"score": "energy", "id": {"accuracy": accuracy}, "ood": detection}
    return {"evaluation": evaluation, "curves": {}}


def test_the_interval_is_that_of_a_paired_t_test() -> None:
    values = [-1.2, 0.4, -2.0]
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert paired(values) == f"{np.mean(values):+.1f} [{low:+.1f}, {high:+.1f}]"
    assert paired([0.25]) == "+0.2"


def test_runs_are_paired_by_their_seed_and_not_by_their_order() -> None:
    runs = {
        "energy-0": run(0.5, 0.1, 0.9),
        "energy-1": run(0.3, 0.1, 0.8),
        "energy-2": run(0.4, 0.2, 0.8),
        "greg-2": run(0.3, 0.2, 0.82),
        "greg-1": run(0.1, 0.1, 0.81),
    }
    _, row = effects(by_method_and_seed(runs))
    assert row[:4] == ["greg", "energy", "energy", "2"]
    assert row[4] == paired([-20.0, -10.0])
    assert row[5] == paired([-10.0, -5.0])
    assert row[6] == paired([1.0, 2.0])


def test_sets_that_a_run_lacks_are_left_out() -> None:
    assert fpr95(run(0.5, 0.1, 0.9)) == pytest.approx([50, 10])
