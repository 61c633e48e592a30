"""The float64 references against exact decimals, closed forms and scipy."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, localcontext

import numpy as np
import numpy.typing as npt
import pytest
from scipy import special

from export.detectors.base import BASE, Energy, JointEnergy, Msp, Nan, base_scores

KEYS = ["msp", "max_logit", "energy", "joint_energy", "nan", "feature_norm"]
OF_LOGITS = ["msp", "max_logit", "energy", "joint_energy"]
OF_FEATURES = ["nan", "feature_norm"]

Array = npt.NDArray[np.float64]


def _normal(seed: int, rows: int, columns: int, scale: float = 1.0) -> Array:
    return np.random.default_rng(seed).normal(0, scale, (rows, columns))


CASES: dict[str, tuple[Array, Array]] = {
    "ordinary": (_normal(1, 4, 10, 5), _normal(2, 4, 16)),
    "wide": (_normal(3, 2, 1000, 3), np.maximum(_normal(4, 2, 2048), 0)),
    "huge": (np.array([[1e4, -1e4, 0.0], [1e4, 1e4, 1e4]]), np.full((2, 5), 1e4)),
    "hugely negative": (np.full((1, 3), -1e4), np.full((1, 5), -1e4)),
    "one class": (np.array([[2.5], [-2.5]]), np.array([[1.0], [-1.0]])),
    "all labels at -10": (np.full((1, 20), -10.0), np.ones((1, 2))),
    "all labels at -50": (np.full((1, 20), -50.0), np.ones((1, 2))),
    "all-zero features": (np.zeros((1, 3)), np.zeros((1, 8))),
    "no positive activation": (np.ones((1, 3)), np.array([[-1.0, -2.0, 0.0]])),
    "mixed signs": (np.ones((1, 3)), np.array([[3.0, -1.0, 0.0, 2.0]])),
}


def _exact_msp(f: list[Decimal]) -> Decimal:
    return max(x.exp() for x in f) / sum(x.exp() for x in f)


def _exact_energy(f: list[Decimal]) -> Decimal:
    return Decimal(sum(x.exp() for x in f)).ln()


def _exact_joint_energy(f: list[Decimal]) -> Decimal:
    return Decimal(sum((1 + x.exp()).ln() for x in f))


def _exact_nan(a: list[Decimal]) -> Decimal:
    positive = sum(x > 0 for x in a)
    return Decimal(sum(abs(x) for x in a)) / positive if positive else Decimal(0)


EXACT: dict[str, Callable[[list[Decimal]], Decimal]] = {
    "msp": _exact_msp,
    "max_logit": max,
    "energy": _exact_energy,
    "joint_energy": _exact_joint_energy,
    "nan": _exact_nan,
    "feature_norm": lambda a: Decimal(sum(abs(x) for x in a)),
}


def test_keys_are_the_six_of_the_design() -> None:
    assert list(BASE) == KEYS


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("key", KEYS)
def test_equals_the_formula_in_exact_decimals(key: str, case: str) -> None:
    logits, penultimate = CASES[case]
    rows = logits if key in OF_LOGITS else penultimate
    with localcontext() as context:
        context.prec = 60
        exact = [float(EXACT[key]([Decimal(x) for x in row])) for row in rows.tolist()]
    np.testing.assert_allclose(BASE[key]().reference(logits, penultimate), exact, rtol=1e-12, atol=0)


@pytest.mark.parametrize("key", KEYS)
def test_returns_float64_for_each_row_of_float32(key: str) -> None:
    score = BASE[key]().reference(np.zeros((5, 3), np.float32), np.zeros((5, 2), np.float32))
    assert score.shape == (5,)
    assert score.dtype == np.float64


@pytest.mark.parametrize("key", KEYS)
def test_no_rows_give_no_scores(key: str) -> None:
    assert BASE[key]().reference(np.empty((0, 3)), np.empty((0, 2))).shape == (0,)


@pytest.mark.parametrize("key", KEYS)
def test_float32_input_is_computed_in_float64(key: str) -> None:
    logits, penultimate = (array.astype(np.float32) for array in CASES["ordinary"])
    wide = BASE[key]().reference(logits.astype(np.float64), penultimate.astype(np.float64))
    np.testing.assert_array_equal(BASE[key]().reference(logits, penultimate), wide)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("sign", [1, -1])
def test_finite_at_the_largest_float32(key: str, sign: int) -> None:
    largest = sign * np.finfo(np.float32).max
    row = np.array([[largest, 0, -largest]], np.float32)
    assert np.isfinite(BASE[key]().reference(row, row)).all()


@pytest.mark.parametrize("key", KEYS)
def test_does_not_change_its_input(key: str) -> None:
    logits, penultimate = (array.copy() for array in CASES["ordinary"])
    BASE[key]().reference(logits, penultimate)
    np.testing.assert_array_equal(logits, CASES["ordinary"][0])
    np.testing.assert_array_equal(penultimate, CASES["ordinary"][1])


@pytest.mark.parametrize("key", OF_LOGITS)
def test_a_more_confident_logit_raises_the_score(key: str) -> None:
    logits = np.array([[1.0, 0, 0], [2.0, 0, 0], [5.0, 0, 0]])
    assert (np.diff(BASE[key]().reference(logits, np.ones((3, 2)))) > 0).all()


@pytest.mark.parametrize("key", OF_FEATURES)
def test_stronger_activations_raise_the_score(key: str) -> None:
    penultimate = np.array([[1.0, 0, 2.0], [2.0, 0, 4.0], [3.0, 0, 6.0]])
    assert (np.diff(BASE[key]().reference(np.ones((3, 2)), penultimate)) > 0).all()


def test_sparser_activations_of_the_same_norm_raise_nan() -> None:
    sparse, dense = Nan().reference(np.ones((2, 2)), np.array([[4.0, 0, 0, 0], [1.0, 1, 1, 1]]))
    assert (sparse, dense) == (4, 1)


def test_nan_counts_only_positive_activations_and_sums_all() -> None:
    assert Nan().reference(np.ones((1, 2)), np.array([[3.0, -1.0, 0.0, 2.0]])) == pytest.approx(6 / 2)


@pytest.mark.parametrize("row", [[0.0, 0.0], [-1.0, -3.0], [-1.0, 0.0]])
def test_nan_is_zero_where_nothing_is_positive(row: list[float]) -> None:
    assert Nan().reference(np.ones((1, 2)), np.array([row])) == 0


@pytest.mark.parametrize("classes", [1, 2, 10, 1000])
def test_msp_of_equal_logits_is_one_over_k(classes: int) -> None:
    assert Msp().reference(np.full((1, classes), 7.0), np.ones((1, 2))) == pytest.approx(1 / classes, rel=1e-14)


@pytest.mark.parametrize("temperature", [0.01, 0.1, 0.5, 1.0, 2.0, 100.0])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_energy_with_a_temperature_is_scipys_logsumexp(temperature: float, scale: float) -> None:
    logits = _normal(5, 6, 7, scale)
    expected = temperature * special.logsumexp(logits / temperature, axis=1)
    np.testing.assert_allclose(Energy(temperature).reference(logits, np.ones((6, 2))), expected, rtol=1e-13)


def test_energy_of_equal_logits_adds_t_log_k() -> None:
    energy = Energy(0.5).reference(np.full((1, 8), 3.0), np.ones((1, 2)))
    assert energy == pytest.approx(3 + 0.5 * np.log(8), rel=1e-14)


def test_energy_at_a_low_temperature_is_the_maximum() -> None:
    logits = _normal(6, 5, 10)
    energy = Energy(1e-6).reference(logits, np.ones((5, 2)))
    np.testing.assert_allclose(energy, logits.max(axis=1), atol=1e-5)


@pytest.mark.parametrize("logit", [-10.0, -20.0, -36.0, -37.0, -50.0, -100.0])
def test_softplus_tail_keeps_its_relative_precision(logit: float) -> None:
    e = np.exp(logit)
    tail = JointEnergy().reference(np.full((1, 4), logit), np.ones((1, 2)))
    assert tail == pytest.approx(4 * (e - e**2 / 2 + e**3 / 3), rel=1e-13, abs=0)


def test_parameters_go_to_their_score_alone() -> None:
    logits, penultimate = CASES["ordinary"]
    detectors = base_scores({"energy": {"temperature": 0.1}})
    assert list(detectors) == KEYS
    energy, msp = (detectors[key].reference(logits, penultimate) for key in ("energy", "msp"))
    np.testing.assert_allclose(energy, 0.1 * special.logsumexp(logits / 0.1, axis=1), rtol=1e-13)
    np.testing.assert_allclose(msp, special.softmax(logits, axis=1).max(axis=1), rtol=1e-13)
