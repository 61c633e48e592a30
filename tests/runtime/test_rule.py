"""The decision rule by predicted class: a rejection is a p-value of at most alpha, and nothing else is."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from export.calibrate.calibration import calibrate
from runtime.exceptions import CalibrationError
from runtime.manifest import ErrorBound, GateSpec, Manifest, ModelSpec, Selection
from runtime.rule import Rule, thresholds
from tests.small import LABELS, SPEC

N = 20_000  # more than are stored one by one


@pytest.fixture(scope="module")
def drawn() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Scores with ties and classes; the last class is rare."""
    rng = np.random.default_rng(5)
    classes = rng.choice(3, N, p=(0.9, 0.0994, 0.0006))
    return (rng.normal(classes, 1).round(2) + 0.1).astype(np.float32), classes


def calibrated(drawn: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]], *, conditional: bool) -> GateSpec:
    scores, classes = drawn
    manifest = Manifest(ModelSpec("small", "net", "none", 10, 8), "multiclass", LABELS, SPEC, ("energy",))
    fitted = calibrate(manifest, scores[:, None], "energy", 0.45, classes=classes if conditional else None)
    assert fitted.gate is not None
    return fitted.gate


def rule_of(gate: GateSpec) -> Rule:
    return Rule(LABELS, ("energy",), gate)


def p_values(rule: Rule, scores: npt.NDArray[np.float32], classes: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.array([rule.p_value(score, k) for score, k in zip(scores.tolist(), classes.tolist(), strict=True)])


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.1, 0.45])
def test_a_rejection_is_a_p_value_of_at_most_alpha(
    drawn: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]], conditional: bool, alpha: float
) -> None:
    gate = calibrated(drawn, conditional=conditional)
    rule = rule_of(gate.at(alpha))
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
    gate = calibrated(drawn, conditional=True)
    scores, classes = drawn
    p = p_values(rule_of(gate), scores, classes)
    own = np.sort(scores[classes == 1])
    expected = (1 + np.searchsorted(own, scores, side="right")) / (len(own) + 1)
    np.testing.assert_array_equal(p[classes == 1], expected[classes == 1])


def test_a_class_that_fell_back_has_the_threshold_and_p_values_of_all_images(
    drawn: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]],
) -> None:
    gate = calibrated(drawn, conditional=True)
    rare = int((drawn[1] == 2).sum())
    assert 1 < rare < 19
    strict, loose = rule_of(gate.at(0.05)), rule_of(gate.at(0.45))
    probe = (np.array([0.5], np.float32), np.array([2]))
    whole = rule_of(calibrated(drawn, conditional=False))
    assert gate.at(0.05).classes.keys() == {"cat", "dog"}
    assert p_values(strict, *probe) == p_values(whole, *probe)
    assert strict.thresholds(probe[1]) == np.float32(gate.at(0.05).threshold)
    assert gate.at(0.45).classes["ship"].n == rare
    assert p_values(loose, *probe) == (1 + (drawn[0][drawn[1] == 2] <= 0.5).sum()) / (rare + 1)


def test_the_thresholds_are_float32_by_class(drawn: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]) -> None:
    gate = calibrated(drawn, conditional=True)
    own = thresholds(LABELS, gate)
    assert own.dtype == np.float32
    assert own.tolist() == [gate.classes[label].threshold for label in LABELS]
    gate = calibrated(drawn, conditional=False)
    assert thresholds(LABELS, gate).tolist() == [gate.threshold] * 3


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.1])
def test_accepts_by_brute_force(
    drawn: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]], conditional: bool, alpha: float
) -> None:
    """One image after another, with values that are not finite strewn among logits and scores."""
    gate = calibrated(drawn, conditional=conditional).at(alpha)
    rng = np.random.default_rng(6)
    logits = rng.normal(size=(2000, 3)).astype(np.float32)
    scores = rng.normal(0.2, 1.5, (2000, 2)).astype(np.float32)
    for values in (logits, scores):
        hit = rng.random(values.shape) < 0.02
        values[hit] = rng.choice([np.nan, np.inf, -np.inf], hit.sum())
    found = Rule(LABELS, ("other", "energy"), gate).accepts(logits, scores)
    for f, (other, energy), accepted in zip(logits.tolist(), scores.tolist(), found.tolist(), strict=True):
        usable = math.isfinite(other) and math.isfinite(energy) and not any(map(math.isnan, f)) and max(f) < math.inf
        label = LABELS[f.index(max(f))] if usable else ""
        threshold = gate.classes[label].threshold if label in gate.classes else gate.threshold
        assert accepted == (usable and energy >= np.float32(threshold))
    assert 100 < found.sum() < 1900


def test_an_image_is_accepted_when_it_is_known_and_certain(
    drawn: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]],
) -> None:
    gate = calibrated(drawn, conditional=False)
    others = tuple(replace(point, selection=Selection(0.0, 9, 0, 0.3)) for point in gate.operating_points)
    bound = ErrorBound(0.02, 0.95, "other", 99)
    gate = replace(gate, max_error=bound, selection=Selection(0.7, 9, 0, 0.3), operating_points=others)
    rng = np.random.default_rng(7)
    logits = rng.normal(size=(2000, 3)).astype(np.float32)
    scores = rng.normal(0.7, 1, (2000, 2)).astype(np.float32)
    scores[0], scores[1] = (0.7, 99), (np.nan, 99)
    for alpha, least in ((gate.alpha, np.float32(0.7)), (0.05, np.float32(0))):
        rule = Rule(LABELS, ("other", "energy"), gate.at(alpha))
        known, certain = rule.known(logits, scores), rule.certain(scores)
        np.testing.assert_array_equal(known[2:], scores[2:, 1] >= np.float32(gate.at(alpha).threshold))
        np.testing.assert_array_equal(certain[2:], scores[2:, 0] >= least)
        np.testing.assert_array_equal(rule.accepts(logits, scores), known & certain)
        assert [known[0], certain[0], known[1], certain[1]] == [True, True, False, False]


def test_without_a_bound_on_the_error_every_image_is_certain(
    drawn: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]],
) -> None:
    rule = rule_of(calibrated(drawn, conditional=False))
    assert rule.certain(np.array([[math.nan], [-1e30]], np.float32)).all()


def test_no_rule_without_a_threshold() -> None:
    manifest = Manifest(ModelSpec("small", "net", "none", 10, 8), "multiclass", LABELS, SPEC, ("energy",))
    with pytest.raises(CalibrationError, match=r"small has no threshold yet: run oodgate calibrate"):
        Rule.of(manifest)


def test_p_values_among_all_images_do_not_depend_on_the_class(
    drawn: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]],
) -> None:
    scores, classes = drawn
    by_class, alone = (rule_of(calibrated(drawn, conditional=conditional)) for conditional in (True, False))
    for score, label in zip(scores[:200].tolist(), classes[:200].tolist(), strict=True):
        assert by_class.p_value_among_all(score) == alone.p_value(score, label)
    assert any(by_class.p_value(score, 1) != by_class.p_value_among_all(score) for score in scores[:20].tolist())
