"""ASH and SCALE by a loop over images, as published, where no activations are the same."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp

from export.detectors.interface import Fitted
from export.detectors.shaping.ash import AshB, AshS, Scale, ShapingSettings
from export.exceptions import ExportError
from tests.export.detectors.graphs import Example, digits, in_graph, linear, random, reference

KINDS = [AshB, AshS, Scale]


def shaped(kind: type[Fitted], x: np.ndarray[tuple[int], np.dtype[np.float64]], percentile: float) -> list[float]:
    k = len(x) - round(len(x) * percentile / 100)
    order = np.argsort(-x)[:k]
    s1, s2 = x.sum(), x[order].sum()
    if kind is Scale:
        return list(x * np.exp(s1 / s2))
    out = np.zeros_like(x)
    out[order] = s1 / k if kind is AshB else x[order] * np.exp(s1 / s2)
    return list(out)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("percentile", [40, 65, 90])
def test_is_the_energy_of_shaped_activations(kind: type[Fitted], percentile: float, rng: np.random.Generator) -> None:
    example = digits()
    x = rng.gamma(1, 1, (50, 48)).astype(np.float32)  # no zeros, no ties
    training = example.training(settings={kind: ShapingSettings(percentile, 2.0)})
    weights, bias = training.layers.linear()
    expected = [2 * logsumexp((weights @ shaped(kind, row, percentile) + bias) / 2) for row in x.astype(np.float64)]
    np.testing.assert_allclose(reference(example.model, training.fit(kind), x), expected, rtol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("percentile", [10, 50, 98])
def test_rows_of_zeros_ties_and_few_positive_activations(kind: type[Fitted], percentile: float) -> None:
    example = digits()
    x = np.zeros((4, 48), np.float32)
    x[1, 5], x[2], x[3, ::2] = 3, 1, 0.25
    detector = example.training(settings={kind: ShapingSettings(percentile)}).fit(kind)
    found = in_graph(example.model, detector, x)
    np.testing.assert_allclose(found, reference(example.model, detector, x), rtol=1e-5)
    _, bias = example.training().layers.linear()
    assert found[0] == pytest.approx(logsumexp(bias), rel=1e-5)


def test_binarised_activations_keep_their_sum() -> None:
    """Where fewer are positive than are kept, zeros stay zeros."""
    example = Example(linear(np.ones((1, 6)), [0.0]), np.eye(6, dtype=np.float32), np.zeros(6, np.int64), np.eye(6))
    detector = example.training(settings={AshB: ShapingSettings(20)}).fit(AshB)
    x = np.array([[1, 2, 0, 0, 0, 0], [6, 5, 4, 3, 2, 1]], np.float32)
    np.testing.assert_allclose(reference(example.model, detector, x), [3, 21])


@pytest.mark.parametrize("kind", KINDS)
def test_activations_of_a_great_magnitude_are_finite(kind: type[Fitted]) -> None:
    example = random(features=256)
    detector = example.training(settings={kind: ShapingSettings(98)}).fit(kind)
    assert np.isfinite(in_graph(example.model, detector, np.full((2, 256), 1e4, np.float32))).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_percentile_is_chosen_by_outliers(kind: type[Fitted]) -> None:
    """Of all percentiles the one that separates best, by brute force over what --set would give."""
    example = digits()
    training = example.training()
    chosen = training.fit(kind)
    assert isinstance(chosen, (AshB, AshS, Scale))
    outliers = training.outliers["strange"]

    def separation(detector: Fitted) -> float:
        known, others = (
            detector.reference(x.logits, x.penultimate)[:600]
            for x in (training, outliers)  # type: ignore[attr-defined]
        )
        return float((known[:, None] > others).mean())

    given = [example.training(settings={kind: ShapingSettings(p)}).fit(kind) for p in (35, 50, 65, 75, 85, 90, 95)]
    assert separation(chosen) >= max(map(separation, given)) - 0.01
    parameters = training.parameters_of(chosen)
    assert parameters["percentile"] == pytest.approx(100 * (1 - chosen.kept / 48), abs=1e-3)


def test_without_outliers_there_is_nothing_to_choose_by() -> None:
    training = digits().training().with_penultimate(digits().fitted_on)
    with pytest.raises(ExportError, match="chosen by outliers, and there are none; give them by --set"):
        training.fit(Scale)


@pytest.mark.parametrize("wrong", [{"percentile": 0.0}, {"percentile": 99.0}, {"temperature": 0.0}])
def test_settings_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        ShapingSettings(**wrong)
