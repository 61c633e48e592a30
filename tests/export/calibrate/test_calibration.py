"""Calibration: the threshold by counting, the interval by exact binomial sums, the quantiles bit by bit."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt
import pytest

from export import conformal
from export.calibrate.calibration import calibrate, max_rejection, tpr_interval
from export.exceptions import ExportError
from runtime.exceptions import CalibrationError
from runtime.manifest import Manifest, ModelSpec
from tests.small import LABELS, SPEC

SCORES = ("msp", "energy")
MANIFEST = Manifest(ModelSpec("small", "net", "none", 10, 8), "multiclass", LABELS, SPEC, SCORES)


def scores_of(rng: np.random.Generator, count: int) -> npt.NDArray[np.float32]:
    return rng.normal(0, 3, (count, 2)).astype(np.float32)


# alpha, n, and the k of the k-th smallest: floor(alpha (n + 1)) worked out by hand
RANKS = [(0.05, 19, 1), (0.05, 99, 5), (0.05, 100, 5), (0.1, 99, 10), (0.29, 99, 29), (0.5, 10, 5), (0.01, 99, 1)]


@pytest.mark.parametrize(("alpha", "count", "k"), RANKS)
@pytest.mark.parametrize("score", SCORES)
def test_the_threshold_is_the_kth_smallest(
    score: str, alpha: float, count: int, k: int, rng: np.random.Generator
) -> None:
    scores = scores_of(rng, count)
    gate = calibrate(MANIFEST, scores, score, alpha).gate
    assert gate is not None
    own = scores[:, SCORES.index(score)]
    assert np.float32(gate.threshold) == gate.threshold
    assert (own < gate.threshold).sum() == k - 1
    kth = float(np.sort(own)[k - 1])
    assert gate.threshold == pytest.approx(kth - 1e-6 * abs(kth), rel=2e-7)
    assert (gate.score, gate.alpha, gate.n_calibration) == (score, alpha, count)
    assert gate.tpr_target == pytest.approx(1 - alpha)


def test_an_image_like_the_others_is_rejected_with_at_most_alpha(rng: np.random.Generator) -> None:
    """The promise, by leaving each of n + 1 exchangeable images out in turn: rejections can't exceed alpha (n + 1)."""
    scores = scores_of(rng, 60)
    scores[::7] = scores[0]  # ties
    rejected = 0
    for i in range(len(scores)):
        gate = calibrate(MANIFEST, np.delete(scores, i, axis=0), "energy", 0.13).gate
        assert gate is not None
        rejected += bool(scores[i, 1] < gate.threshold)
    assert 0 < rejected <= 0.13 * len(scores)


@pytest.mark.parametrize(("alpha", "count", "k"), RANKS)
def test_the_interval_holds_95_percent(alpha: float, count: int, k: int) -> None:
    """The k-th smallest of n uniform scores accepts at most x where fewer than k of them lie below 1 - x."""

    def probability_below(x: float) -> float:
        rejection = 1 - x
        return sum(math.comb(count, j) * rejection**j * x ** (count - j) for j in range(k))

    low, high = tpr_interval(count, alpha)
    assert probability_below(low) == pytest.approx(0.025, rel=1e-6)
    assert probability_below(high) == pytest.approx(0.975, rel=1e-6)


def test_the_interval_by_simulation(rng: np.random.Generator) -> None:
    """For uniform scores the acceptance rate of a threshold t is 1 - t; t is the 10th smallest of 99."""
    acceptance = 1 - np.sort(rng.random((20_000, 99)), axis=1)[:, 9]
    assert tpr_interval(99, 0.1) == pytest.approx(np.quantile(acceptance, [0.025, 0.975]), abs=0.005)


def test_a_wider_confidence_gives_a_wider_interval() -> None:
    narrow, wide = tpr_interval(99, 0.1, 0.5), tpr_interval(99, 0.1, 0.99)
    assert wide[0] < narrow[0] < 0.9 < narrow[1] < wide[1]


def test_the_interval_is_in_the_manifest(rng: np.random.Generator) -> None:
    gate = calibrate(MANIFEST, scores_of(rng, 99), "msp", 0.1).gate
    assert gate is not None
    assert gate.tpr_interval == tpr_interval(99, 0.1)


def test_quantiles_are_all_scores_of_every_column_in_order(rng: np.random.Generator) -> None:
    scores = scores_of(rng, 99)
    gate = calibrate(MANIFEST, scores, "energy", 0.1).gate
    assert gate is not None
    calibration = gate.calibration
    assert (calibration.n, calibration.ranks) == (99, tuple(range(1, 100)))
    for column, name in enumerate(SCORES):
        assert [np.float32(q) for q in calibration.quantiles[name]] == sorted(scores[:, column])


def test_quantiles_and_threshold_survive_json_to_the_bit(rng: np.random.Generator) -> None:
    scores = (rng.normal(0, 1, (500, 2)) * 10.0 ** rng.integers(-30, 30, (500, 2))).astype(np.float32)
    manifest = calibrate(MANIFEST, scores, "energy", 0.1)
    read = Manifest.from_json(manifest.to_json())
    assert read == manifest
    assert read.gate is not None
    for column, name in enumerate(SCORES):
        stored = np.array(read.gate.calibration.quantiles[name], dtype=np.float32)
        assert stored.tobytes() == np.sort(scores[:, column]).tobytes()


def test_quantiles_are_written_short() -> None:
    manifest = calibrate(MANIFEST, np.full((9, 2), 0.1, np.float32), "msp", 0.1)
    assert manifest.gate is not None
    assert str(manifest.gate.calibration.quantiles["msp"][0]) == "0.1"


def test_a_large_set_keeps_the_low_ranks_and_some_of_the_others(rng: np.random.Generator) -> None:
    scores = scores_of(rng, 20_000)
    gate = calibrate(MANIFEST, scores, "msp", 0.05).gate
    assert gate is not None
    calibration = gate.calibration
    assert len(calibration.ranks) <= 4096
    assert calibration.ranks[:2048] == tuple(range(1, 2049))
    assert calibration.ranks[-1] == calibration.n == 20_000
    ordered = np.sort(scores[:, 0])
    expected = [ordered[rank - 1] for rank in calibration.ranks]
    assert [np.float32(q) for q in calibration.quantiles["msp"]] == expected


def test_calibrating_again_replaces_the_gate(rng: np.random.Generator) -> None:
    scores = scores_of(rng, 99)
    once = calibrate(MANIFEST, scores, "msp", 0.1)
    assert calibrate(once, scores, "energy", 0.2) == calibrate(MANIFEST, scores, "energy", 0.2)


def test_nothing_else_of_the_manifest_changes(rng: np.random.Generator) -> None:
    manifest = calibrate(MANIFEST, scores_of(rng, 99), "msp", 0.1)
    changed = {name for name in vars(MANIFEST) if getattr(manifest, name) != getattr(MANIFEST, name)}
    assert changed == {"gate"}


def test_unknown_score(rng: np.random.Generator) -> None:
    with pytest.raises(ExportError, match="unknown score 'softmax'; the graph has msp, energy"):
        calibrate(MANIFEST, scores_of(rng, 99), "softmax", 0.1)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, 2.0, math.nan])
def test_alpha_that_is_no_probability(alpha: float, rng: np.random.Generator) -> None:
    with pytest.raises(CalibrationError, match="alpha must be between 0 and 1"):
        calibrate(MANIFEST, scores_of(rng, 99), "msp", alpha)


@pytest.mark.parametrize(("alpha", "count", "needed"), [(0.05, 18, 19), (0.01, 50, 99), (0.3, 2, 3)])
def test_too_few_images(alpha: float, count: int, needed: int, rng: np.random.Generator) -> None:
    with pytest.raises(CalibrationError, match=rf"{count} calibration images are too few.* at least {needed} are"):
        calibrate(MANIFEST, scores_of(rng, count), "msp", alpha)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_in_any_column(value: float, rng: np.random.Generator) -> None:
    scores = scores_of(rng, 99)
    scores[5, 1] = value
    with pytest.raises(CalibrationError, match="1 of 198 calibration scores are not finite"):
        calibrate(MANIFEST, scores, "msp", 0.1)


# --- the largest rejection rate


@pytest.mark.parametrize(("alpha", "count", "k"), RANKS)
def test_the_largest_rejection_rate_is_exceeded_by_5_percent_of_the_sets(alpha: float, count: int, k: int) -> None:
    """The k-th smallest of n uniform scores exceeds r where fewer than k of them lie below r."""
    r = max_rejection(count, alpha)
    assert sum(math.comb(count, j) * r**j * (1 - r) ** (count - j) for j in range(k)) == pytest.approx(0.05, rel=1e-6)


def test_guarantees_are_in_the_manifest(rng: np.random.Generator) -> None:
    gate = calibrate(MANIFEST, scores_of(rng, 250), "msp", 0.2).gate
    assert gate is not None
    for point in gate.points:
        assert point.tpr_interval == tpr_interval(250, point.alpha)
        assert point.max_rejection == max_rejection(250, point.alpha)


# --- operating points


@pytest.mark.parametrize(
    ("count", "alpha", "alphas"),
    [
        (99, 0.05, (0.01, 0.05, 0.1)),
        (98, 0.05, (0.05, 0.1)),
        (98, 0.2, (0.05, 0.1, 0.2)),
        (18, 0.1, (0.1,)),
        (5, 0.3, (0.3,)),
        (999, 0.001, (0.001, 0.01, 0.05, 0.1)),
    ],
)
def test_operating_points_that_there_are_images_for(
    count: int, alpha: float, alphas: tuple[float, ...], rng: np.random.Generator
) -> None:
    scores = scores_of(rng, count)
    gate = calibrate(MANIFEST, scores, "energy", alpha).gate
    assert gate is not None
    assert (gate.alphas, gate.alpha) == (alphas, alpha)
    for other in alphas:
        again = calibrate(MANIFEST, scores, "energy", other).gate
        assert again is not None
        assert gate.at(other).threshold == again.threshold


# --- by predicted class


@pytest.mark.parametrize(("alpha", "stored"), [(0.1 + 0.2, 0.3), (1 - 0.95, 0.05)])
def test_an_alpha_that_was_computed_is_stored_as_it_is_asked_for(
    alpha: float, stored: float, rng: np.random.Generator
) -> None:
    gate = calibrate(MANIFEST, scores_of(rng, 500), "msp", alpha).gate
    assert gate is not None
    assert gate.alpha == stored != alpha
    assert gate.alphas == tuple(sorted({0.01, 0.05, 0.1, stored}))
    assert gate.at(stored) == gate


def test_class_thresholds_are_those_of_the_classes_own_images(rng: np.random.Generator) -> None:
    scores, classes = scores_of(rng, 200), rng.choice(3, 200, p=(0.7, 0.26, 0.04))
    manifest = calibrate(MANIFEST, scores, "energy", 0.05, classes=classes)
    gate = manifest.gate
    assert gate is not None
    calibration = gate.calibration
    assert set(gate.classes) == {"cat", "dog"}
    for index, label in enumerate(("cat", "dog")):
        members = scores[classes == index]
        alone = calibrate(MANIFEST, members, "energy", 0.05)
        assert alone.gate is not None
        own = gate.classes[label]
        assert (own.n, own.threshold) == (len(members), alone.gate.threshold)
        assert (own.tpr_interval, own.max_rejection) == (alone.gate.tpr_interval, alone.gate.max_rejection)
        assert calibration.classes[label].quantiles == alone.gate.calibration.quantiles["energy"]
    whole = calibrate(MANIFEST, scores, "energy", 0.05).gate
    assert whole is not None
    assert (gate.threshold, gate.n_calibration) == (whole.threshold, 200)


def test_a_class_may_have_enough_images_for_some_operating_points_only(rng: np.random.Generator) -> None:
    classes = np.repeat([0, 1, 2], [150, 40, 9])
    gate = calibrate(MANIFEST, scores_of(rng, 199), "msp", 0.1, classes=classes).gate
    assert gate is not None
    found = {point.alpha: set(point.classes) for point in gate.points}
    assert found == {0.01: {"cat"}, 0.05: {"cat", "dog"}, 0.1: {"cat", "dog", "ship"}}


def test_no_class_has_enough_images(rng: np.random.Generator) -> None:
    manifest = calibrate(MANIFEST, scores_of(rng, 21), "msp", 0.1, classes=np.arange(21) % 3)
    assert manifest.gate is not None
    assert manifest.gate.class_conditional
    assert (manifest.gate.classes, manifest.gate.calibration.classes) == ({}, {})


def test_a_conditional_gate_survives_json(rng: np.random.Generator) -> None:
    manifest = calibrate(MANIFEST, scores_of(rng, 150), "msp", 0.07, classes=rng.integers(0, 3, 150))
    assert Manifest.from_json(manifest.to_json(indent=1)) == manifest


@pytest.mark.parametrize("tie", [0.0583254136, 1.0, -7.5, 4096.1])
def test_images_that_tie_with_the_threshold_are_accepted_a_last_bit_lower(tie: float) -> None:
    """Another engine's rounding does not reject all of them."""
    value = np.float32(tie)
    scores = np.repeat(np.array([[value], [value + abs(value)]]), [60, 40], axis=0)
    manifest = dataclasses.replace(MANIFEST, scores=("energy",))
    gate = calibrate(manifest, scores, "energy", 0.05).gate
    assert gate is not None
    for _steps in range(3):
        assert value >= np.float32(gate.threshold)
        value = np.nextafter(value, np.float32(-np.inf))
    assert value < np.float32(tie)
    assert conformal.tied(gate.threshold, gate.calibration.quantiles["energy"])


def test_a_single_score_at_the_threshold_is_no_tie(rng: np.random.Generator) -> None:
    gate = calibrate(MANIFEST, scores_of(rng, 99), "energy", 0.1).gate
    assert gate is not None
    assert not conformal.tied(gate.threshold, gate.calibration.quantiles["energy"])
