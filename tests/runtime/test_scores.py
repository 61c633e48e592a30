"""How far a graph's scores are from float64 is found in each column that follows from its own outputs."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from runtime import scores
from runtime.bundle import Bundle
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from tests.small import calibration_images


def test_closed_forms() -> None:
    logits, features = np.array([[math.log(3.0), 0.0]]), np.array([[1.0, -2.0, 0.0, 3.0]])
    assert scores.msp(logits)[0] == pytest.approx(3 / 4)
    assert scores.max_logit(logits)[0] == pytest.approx(math.log(3))
    assert scores.energy(logits)[0] == pytest.approx(math.log(4))
    assert scores.energy(logits, 2.0)[0] == pytest.approx(2 * math.log(math.sqrt(3) + 1))
    assert scores.joint_energy(logits)[0] == pytest.approx(math.log(4) + math.log(2))
    assert scores.feature_norm(features)[0] == 6
    assert scores.negative_aware_norm(features)[0] == 3
    assert scores.negative_aware_norm(-np.abs(features))[0] == 0


@pytest.mark.parametrize("name", ["msp", "max_logit", "energy", "joint_energy", "nan", "feature_norm"])
def test_an_error_in_any_column_is_found(shared_bundle: Bundle, name: str) -> None:
    found = OnnxRuntimeCpu(shared_bundle.model, 1).run(calibration_images(8), penultimate=True)
    assert found.penultimate is not None
    manifest, wrong = shared_bundle.manifest, found.scores.copy()
    assert scores.largest_error(manifest, found.logits, found.penultimate, wrong) < 1e-6
    wrong[3, manifest.scores.index(name)] += 0.01
    error = scores.largest_error(manifest, found.logits, found.penultimate, wrong)
    assert 1e-4 < error <= 0.0101


def test_the_temperature_is_the_manifests(shared_bundle: Bundle) -> None:
    found = OnnxRuntimeCpu(shared_bundle.model, 1).run(calibration_images(8), penultimate=True)
    other = dataclasses.replace(shared_bundle.manifest, score_parameters={"energy": {"temperature": 2.0}})
    assert scores.largest_error(other, found.logits, np.asarray(found.penultimate), found.scores) > 0.01


def test_a_score_that_is_not_a_number_is_no_small_error(shared_bundle: Bundle) -> None:
    found = OnnxRuntimeCpu(shared_bundle.model, 1).run(calibration_images(2), penultimate=True)
    wrong = found.scores.copy()
    wrong[0, 0] = np.nan
    assert not scores.largest_error(shared_bundle.manifest, found.logits, np.asarray(found.penultimate), wrong) <= 1e-5


def test_other_columns_are_passed_over(shared_bundle: Bundle) -> None:
    fitted = dataclasses.replace(shared_bundle.manifest, scores=("knn",), gate=None)
    assert scores.largest_error(fitted, np.zeros((1, 3)), np.zeros((1, 8)), np.ones((1, 1))) == 0
