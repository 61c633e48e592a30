"""The decision rule by predicted class: a rejection is a p-value of at most alpha, and nothing else is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from export.calibrate.calibration import calibrate
from runtime.manifest import Calibration, GateSpec, Manifest, ModelSpec
from runtime.rule import Rule, thresholds
from tests.small import LABELS, SPEC

N = 20_000  # more than are stored one by one


@pytest.fixture(scope="module")
def drawn() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Scores with ties and classes; the last class is rare."""
    rng = np.random.default_rng(5)
    classes = rng.choice(3, N, p=(0.9, 0.0994, 0.0006))
    return (rng.normal(classes, 1).round(2) + 0.1).astype(np.float32), classes


def calibrated(
    drawn: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]], *, conditional: bool
) -> tuple[GateSpec, Calibration]:
    scores, classes = drawn
    manifest = Manifest(ModelSpec("small", "net", "none", 10, 8), "multiclass", LABELS, SPEC, ("energy",))
    fitted = calibrate(manifest, scores[:, None], "energy", 0.45, classes=classes if conditional else None)
    assert fitted.gate is not None
    assert fitted.calibration is not None
    return fitted.gate, fitted.calibration


def p_values(rule: Rule, scores: npt.NDArray[np.float32], classes: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.array([rule.p_value(score, k) for score, k in zip(scores.tolist(), classes.tolist(), strict=True)])


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.1, 0.45])
def test_a_rejection_is_a_p_value_of_at_most_alpha(
    drawn: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]], conditional: bool, alpha: float
) -> None:
    gate, calibration = calibrated(drawn, conditional=conditional)
    rule = Rule(LABELS, gate.at(alpha), calibration)
    scores, classes = drawn
    scores = np.concatenate([scores, scores - np.float32(0.005), np.array([-1e30, 1e30], np.float32)])
    classes = np.concatenate([classes, classes, [0, 2]])
    rejected = scores < rule.thresholds(classes)
    np.testing.assert_array_equal(rejected, p_values(rule, scores, classes) <= alpha)
    assert rejected.any()
    assert not rejected.all()


def test_p_values_are_among_the_images_predicted_as_the_same_class(
    drawn: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]],
) -> None:
    gate, calibration = calibrated(drawn, conditional=True)
    scores, classes = drawn
    p = p_values(Rule(LABELS, gate, calibration), scores, classes)
    own = np.sort(scores[classes == 1])
    expected = (1 + np.searchsorted(own, scores, side="right")) / (len(own) + 1)
    np.testing.assert_array_equal(p[classes == 1], expected[classes == 1])


def test_a_class_that_fell_back_has_the_threshold_and_p_values_of_all_images(
    drawn: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]],
) -> None:
    gate, calibration = calibrated(drawn, conditional=True)
    rare = int((drawn[1] == 2).sum())
    assert 1 < rare < 19
    strict, loose = Rule(LABELS, gate.at(0.05), calibration), Rule(LABELS, gate.at(0.45), calibration)
    probe = (np.array([0.5], np.float32), np.array([2]))
    whole = Rule(LABELS, *calibrated(drawn, conditional=False))
    assert gate.at(0.05).classes.keys() == {"cat", "dog"}
    assert p_values(strict, *probe) == p_values(whole, *probe)
    assert strict.thresholds(probe[1]) == np.float32(gate.at(0.05).threshold)
    assert gate.at(0.45).classes["ship"].n == rare
    assert p_values(loose, *probe) == (1 + (drawn[0][drawn[1] == 2] <= 0.5).sum()) / (rare + 1)


def test_what_the_engine_gets(drawn: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]) -> None:
    gate, calibration = calibrated(drawn, conditional=True)
    own = Rule(LABELS, gate, calibration).threshold
    assert isinstance(own, np.ndarray)
    assert own.dtype == np.float32
    assert own.tolist() == [gate.classes[label].threshold for label in LABELS]
    gate, calibration = calibrated(drawn, conditional=False)
    assert Rule(LABELS, gate, calibration).threshold == gate.threshold
    assert thresholds(LABELS, gate).tolist() == [gate.threshold] * 3
