"""Merged scores by hand and by brute force, and in the graph; curves against the p-values of their images."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from scipy.stats import combine_pvalues

from export import conformal
from export.detectors.base import BASE, base_scores
from export.detectors.columns import attach
from export.detectors.combined.merged import KNOTS, Column, MergedScore, fit, merge, p_values
from export.detectors.interface import Detector
from export.exceptions import ExportError
from export.graph import head
from runtime.exceptions import CalibrationError
from runtime.manifest import Merged, MergeMethod, PValueCurve
from runtime.rule import p_value
from tests.export.graph.test_head import KEYS, attached, features, run

Array = npt.NDArray[np.float32]
METHODS: list[MergeMethod] = ["min", "harmonic", "fisher"]


def exact(scores: Array, images: Array) -> npt.NDArray[np.float64]:
    """The conformal p-values of scores, of images."""
    return np.array([p_value(score, range(1, len(images) + 1), np.sort(images).tolist()) for score in scores.tolist()])


# --- fitting


@pytest.mark.parametrize("n", [1, 2, 10, 255, 5000])
def test_a_curve_goes_through_conformal_p_values(n: int, rng: np.random.Generator) -> None:
    images = rng.normal(size=(n, 1)).astype(np.float32)
    merged = fit(images, ("a",), "min")
    (curve,) = merged.parts.values()
    assert merged.n == n
    assert len(curve.knots) <= KNOTS
    knots = np.array(curve.knots, np.float32)
    np.testing.assert_allclose(p_values(knots, curve), exact(knots, images[:, 0]))
    assert (curve.knots[0], curve.knots[-1], curve.heights[-1]) == (images.min(), images.max(), 1)


def test_a_curve_is_near_the_p_values_everywhere(rng: np.random.Generator) -> None:
    images = rng.normal(size=(5000, 1)).astype(np.float32)
    (curve,) = fit(images, ("a",), "min").parts.values()
    probe = np.linspace(images.min(), images.max(), 3001, dtype=np.float32)
    ratio = p_values(probe, curve) / exact(probe, images[:, 0])
    assert ratio[probe > np.sort(images[:, 0])[10]].min() > 0.85
    assert ratio.max() < 2.01  # below the second image the curve comes from above


def test_ties_are_one_knot(rng: np.random.Generator) -> None:
    images = rng.integers(0, 4, (300, 1)).astype(np.float32)
    (curve,) = fit(images, ("a",), "min").parts.values()
    assert curve.knots == (0, 1, 2, 3)
    np.testing.assert_allclose(curve.heights, exact(np.arange(4, dtype=np.float32), images[:, 0]))


@pytest.mark.parametrize("value", [0.0, -5.0, 1e30, 1e-40])
def test_constant_scores_still_tell_higher_from_lower(value: float) -> None:
    (curve,) = fit(np.full((50, 1), value, np.float32), ("a",), "min").parts.values()
    value = np.float32(value)
    low, same, high = p_values(np.array([value - 10 * max(abs(value), 1), value, value + 1]), curve)
    assert 0 < low < same == high == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_scores_that_are_not_finite_have_no_curve(bad: float) -> None:
    with pytest.raises(CalibrationError, match="1 of 4 calibration scores are not finite"):
        fit(np.array([[1, 2], [bad, 3]], np.float32), ("a", "b"), "min")


def test_no_images_have_no_curve() -> None:
    with pytest.raises(CalibrationError, match="no images"):
        fit(np.empty((0, 2), np.float32), ("a", "b"), "min")


# --- the graph


def parts(model: onnx.ModelProto) -> dict[str, Detector]:
    """Its columns as they are."""
    return {key: Column(tensor) for key, tensor in zip(KEYS, head.columns(model), strict=True)}


def with_merged(merged: Merged) -> onnx.ModelProto:
    model = attached(10, 16)
    attach(model, {"merged": MergedScore(merged, parts(model))}, KEYS)
    onnx.checker.check_model(model, full_check=True)
    return model


def drawn(rng: np.random.Generator, count: int) -> tuple[Array, Array]:
    return rng.normal(0, 2, (count, 10)).astype(np.float32), features(rng, count)


def check(merged: Merged, logits: Array, penultimate: Array) -> Array:
    """The column is the reference of the graph's own columns, to 1e-5; returns it."""
    found, _ = run(with_merged(merged), logits, penultimate)
    expected = merge({key: found[:, i] for i, key in enumerate(KEYS)}, merged)
    assert found.shape[1] == len(KEYS) + 1
    # A logarithm near 0 is as precise as the p-value near 1.
    np.testing.assert_allclose(found[:, -1], expected, rtol=1e-5, atol=1e-6 if merged.method == "fisher" else 1e-30)
    return found[:, -1]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("parts", [("max_logit", "nan"), ("feature_norm", "energy", "joint_energy")])
@pytest.mark.parametrize("n", [1, 40, 3000])
def test_the_column_is_the_reference(
    method: MergeMethod, parts: tuple[str, ...], n: int, rng: np.random.Generator
) -> None:
    logits, penultimate = drawn(rng, n)
    scores, _ = run(attached(10, 16), logits, penultimate)
    merged = fit(scores[:, [KEYS.index(part) for part in parts]], parts, method)
    check(merged, *drawn(rng, 400))
    check(merged, logits, penultimate)  # on the knots
    check(merged, *(array * 100 for array in drawn(rng, 50)))  # far beyond them
    check(merged, *(array - 100 for array in drawn(rng, 50)))


@pytest.mark.parametrize("method", METHODS)
def test_a_threshold_may_lie_below_every_knot(method: MergeMethod, rng: np.random.Generator) -> None:
    """Ten reference images, and a threshold for alpha = 1 %: there are no ties in the tail."""
    logits, penultimate = drawn(rng, 10)
    scores, _ = run(attached(10, 16), logits, penultimate)
    columns = [KEYS.index("max_logit"), KEYS.index("nan")]
    merged = fit(scores[:, columns], ("max_logit", "nan"), method)
    values = check(merged, *drawn(rng, 2000))
    threshold = conformal.threshold(values, 0.01)
    assert (values < threshold).sum() == 19


def test_the_gate_may_be_the_merged_score(rng: np.random.Generator) -> None:
    logits, penultimate = drawn(rng, 200)
    scores, _ = run(attached(10, 16), logits, penultimate)
    model = with_merged(fit(scores[:, [0, 4]], ("msp", "nan"), "min"))
    head.set_gate(model, len(KEYS), 0.4)
    found, accept = run(model, logits, penultimate)
    np.testing.assert_array_equal(accept, found[:, -1] >= np.float32(0.4))
    assert 0 < accept.sum() < 200


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_score_that_is_not_finite_rejects_when_merged(value: float, rng: np.random.Generator) -> None:
    logits, penultimate = drawn(rng, 50)
    scores, _ = run(attached(10, 16), logits, penultimate)
    model = with_merged(fit(scores[:, [1, 4]], ("max_logit", "nan"), "harmonic"))
    head.set_gate(model, len(KEYS), -1.0)
    penultimate[7, 3] = logits[8, 2] = value
    _, accept = run(model, logits, penultimate)
    assert np.flatnonzero(~accept).tolist() == [7, 8]


def test_operators_are_of_the_standard_domain(rng: np.random.Generator) -> None:
    model = with_merged(fit(rng.normal(size=(50, 2)).astype(np.float32), ("msp", "nan"), "harmonic"))
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}


@pytest.mark.parametrize("method", METHODS)
def test_of_base_scores_it_has_a_reference_of_its_own(method: MergeMethod, rng: np.random.Generator) -> None:
    logits, penultimate = drawn(rng, 300)
    scores, _ = run(attached(10, 16), logits, penultimate)
    merged = MergedScore(fit(scores[:, [1, 4]], ("max_logit", "nan"), method), base_scores())
    expected = merge({key: BASE[key]().reference(logits, penultimate) for key in ("max_logit", "nan")}, merged.merged)
    np.testing.assert_array_equal(merged.reference(logits, penultimate), expected)


def test_of_a_column_whose_origin_is_unknown_it_has_none(rng: np.random.Generator) -> None:
    merged = MergedScore(fit(rng.normal(size=(9, 1)).astype(np.float32), ("msp",), "min"), parts(attached(10, 16)))
    with pytest.raises(ExportError, match="no reference"):
        merged.reference(*drawn(rng, 3))


# --- by hand

CURVE = PValueCurve(knots=(1.0, 2.0, 4.0), heights=(0.1, 0.5, 1.0), tail=3.0)


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (1.0, 0.1),
        (1.5, 0.3),
        (2.0, 0.5),
        (3.0, 0.75),
        (4.0, 1.0),
        (1e30, 1.0),
        (-2.0, 0.05),  # one tail below the first knot: half its height
        (-8.0, 0.025),
        (-np.inf, 0.0),
        (np.inf, 1.0),
    ],
)
def test_a_p_value_is_on_its_curve(score: float, expected: float) -> None:
    assert p_values(np.array([score]), CURVE).item() == pytest.approx(expected, rel=1e-12)


def test_a_p_value_climbs_with_the_score_without_ties_below_the_last_knot() -> None:
    assert (np.diff(p_values(np.linspace(-50, 4, 5000), CURVE)) > 0).all()


def test_a_curve_of_one_knot() -> None:
    curve = PValueCurve((2.0,), (1.0,), 1.0)
    np.testing.assert_allclose(p_values(np.array([0.0, 1.0, 2.0, 3.0]), curve), [1 / 3, 1 / 2, 1, 1])


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("min", [0.6, 0.2, 2.0]),
        ("harmonic", [0.375, 2 / 12, 1.0]),
        ("fisher", [math.log(0.15), math.log(0.05), 0.0]),
    ],
)
def test_merging_by_hand(method: MergeMethod, expected: list[float]) -> None:
    """p = (0.3, 0.5), (0.1, 0.5) and (1, 1)."""
    other = PValueCurve((0.0, 1.0), (0.5, 1.0), 1.0)
    scores = {"a": np.array([1.5, 1.0, 9.0]), "b": np.array([0.0, 0.0, 9.0])}
    np.testing.assert_allclose(merge(scores, Merged(method, 9, {"a": CURVE, "b": other})), expected)


@pytest.mark.parametrize(("method", "lowest"), [("min", 0), ("harmonic", 0), ("fisher", -math.inf)])
def test_one_p_value_of_zero_merges_to_the_lowest(method: MergeMethod, lowest: float) -> None:
    scores = {"a": np.array([-np.inf]), "b": np.array([9.0])}
    assert merge(scores, Merged(method, 9, {"a": CURVE, "b": CURVE})).item() == lowest


def test_fisher_orders_as_the_test_of_independent_p_values_does() -> None:
    p = np.random.default_rng(0).uniform(0.1, 1, (50, 2))
    other = PValueCurve((0.1, 1.0), (0.1, 1.0), 1.0)
    found = merge({"a": p[:, 0], "b": p[:, 1]}, Merged("fisher", 9, {"a": other, "b": other}))
    expected = [combine_pvalues(row, method="fisher").statistic / -2 for row in p]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
