"""GEN in exact decimals, and where float32 would lose it."""

from __future__ import annotations

from decimal import Decimal, localcontext

import numpy as np
import pytest

from export.detectors.logits.gen import Gen, GenSettings
from export.exceptions import ExportError
from tests.export.detectors.graphs import Example, digits, in_graph, linear, relative_difference


def exact(f: np.ndarray[tuple[int, ...], np.dtype[np.float32]], gamma: float) -> list[Decimal]:
    """The terms of GEN of one image's logits, the largest probability's first."""
    with localcontext() as context:
        context.prec = 400
        e = [(Decimal(float(value)) - Decimal(float(f.max()))).exp() for value in f]
        p = sorted((value / sum(e) for value in e), reverse=True)
        power = Decimal(str(gamma))
        return [-((value * (1 - value)) ** power) for value in p]


IDENTITY = linear(np.eye(6), np.zeros(6))  # features are logits


@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 20.0, 200.0])
def test_equals_the_formula_in_exact_decimals(scale: float, rng: np.random.Generator) -> None:
    f = rng.normal(0, scale, (10, 6)).astype(np.float32)
    f[0, 1] = f[0, 0] = f[0].max() + 1  # a tie at the top
    terms = [exact(row, 0.1) for row in f]
    for largest in (2, 4, 6):
        expected = np.array([float(sum(row[:largest])) for row in terms])
        detector = Gen(0.1, largest)
        np.testing.assert_allclose(detector.reference(f, f), expected, rtol=1e-9)
        assert relative_difference(in_graph(IDENTITY, detector, f), expected) < 1e-5


def test_logits_of_a_great_magnitude_are_finite() -> None:
    f = np.array([[1e4, -1e4, 0, 0, 0, 0], [1e4] * 6, [-1e4] * 6, [0.0] * 6], np.float32)
    found = in_graph(IDENTITY, Gen(0.1, 6), f)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, Gen(0.1, 6).reference(f, f), rtol=1e-5, atol=1e-30)


def test_a_common_offset_does_not_matter_and_a_flat_prediction_is_lowest() -> None:
    f = np.array([[2, 1, 0, 0, 0, 0], [9, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]], np.float32)
    scores = Gen(0.1, 6).reference(f, f)
    np.testing.assert_allclose(Gen(0.1, 6).reference(f + 77, f), scores, rtol=1e-12)
    assert scores[2] < scores[0] < scores[1]


def test_no_more_than_there_are_classes() -> None:
    assert digits().training().fit(Gen).largest == 10
    assert digits().training(settings={Gen: GenSettings(largest=3)}).fit(Gen).largest == 3


def test_one_class() -> None:
    one = Example(linear(np.ones((1, 4)), [0.0]), np.eye(4, dtype=np.float32), np.zeros(4, np.int64), np.eye(4))
    with pytest.raises(ExportError, match="one class has no entropy"):
        one.training().fit(Gen)


@pytest.mark.parametrize("wrong", [{"gamma": 0.0}, {"gamma": 2.0}, {"largest": 1}, {"largest": 5000}])
def test_settings_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        GenSettings(**wrong)  # type: ignore[arg-type]
