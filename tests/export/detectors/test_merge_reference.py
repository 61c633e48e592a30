"""Merged scores, by hand and by brute force."""

from __future__ import annotations

import numpy as np
import pytest

from export.detectors.merged import merge, p_values
from runtime.manifest import Merged, MergeMethod, PValueCurve

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


@pytest.mark.parametrize(("method", "expected"), [("min", [0.6, 0.2, 2.0]), ("harmonic", [0.375, 2 / 12, 1.0])])
def test_merging_by_hand(method: MergeMethod, expected: list[float]) -> None:
    """p = (0.3, 0.5), (0.1, 0.5) and (1, 1)."""
    other = PValueCurve((0.0, 1.0), (0.5, 1.0), 1.0)
    scores = {"a": np.array([1.5, 1.0, 9.0]), "b": np.array([0.0, 0.0, 9.0])}
    np.testing.assert_allclose(merge(scores, Merged(method, 9, {"a": CURVE, "b": other})), expected)


@pytest.mark.parametrize("method", ["min", "harmonic"])
def test_one_p_value_of_zero_merges_to_zero(method: MergeMethod) -> None:
    scores = {"a": np.array([-np.inf]), "b": np.array([9.0])}
    assert merge(scores, Merged(method, 9, {"a": CURVE, "b": CURVE})).item() == 0
