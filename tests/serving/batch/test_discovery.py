"""The Benjamini-Hochberg set against scipy's and by hand; its false discovery proportion where the truth is known."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import false_discovery_control

from runtime.bundle import Bundle
from runtime.exceptions import CalibrationError
from runtime.manifest import GateSpec
from runtime.manifest.gate import ClassPoint
from runtime.rule import p_value
from serving.batch.discovery import check, counted, discover, smallest
from serving.exceptions import NoDiscoveryGuarantee
from tests.small import LABELS


@pytest.mark.parametrize("q", [0.05, 0.1, 0.5])
@pytest.mark.parametrize("n", [19, 99, 999])
def test_the_set_is_that_of_adjusted_p_values(q: float, n: int, rng: np.random.Generator) -> None:
    for outliers in (0, 10, 200):
        p = (1 + rng.binomial(n, rng.beta(1, np.where(np.arange(500) < outliers, 200, 1)))) / (n + 1)
        found = discover(Counter(p.tolist()), q, 1 / (n + 1))
        adjusted = false_discovery_control(p) <= q * (1 + 1e-12)
        assert found.tested == 500
        assert found.outliers == adjusted.sum()
        assert (found.threshold is None) == (not adjusted.any())
        if found.threshold is not None:
            assert (p[adjusted].max(), (p <= found.threshold).sum()) == (found.threshold, found.outliers)


def test_what_lies_on_the_bound_is_found_whatever_binary_fractions_say() -> None:
    for n in range(1, 400):  # m = n + 1 images, of which k = 10 have p = 1 / (n + 1): p m = q k
        found = discover({1 / (n + 1): 10, 1.0: (n + 1) - 10} if n >= 10 else {1 / (n + 1): n + 1}, 0.1, 1 / (n + 1))
        assert (found.outliers == 10) == (n >= 9)


def test_needed_is_how_many_smallest_p_values_it_takes() -> None:
    for needed in range(1, 60):
        for extra in (-1, 0):
            counts = {0.01: needed + extra, 1.0: 1000 - needed - extra}
            found = discover({p: count for p, count in counts.items() if count}, 0.25, 0.01)
            assert found.needed == 40
            assert (found.outliers > 0) == (needed + extra >= 40)


def test_nothing_tested_is_nothing_found() -> None:
    found = discover({}, 0.1, 0.01)
    assert (found.threshold, found.tested, found.outliers) == (None, 0, 0)


def test_errors_have_no_p_value_and_do_not_count() -> None:
    assert counted(pa.chunked_array([[0.5, None, 0.25], [0.5]])) == {0.25: 1, 0.5: 2}


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("stored", [199, 40])
def test_the_share_of_false_discoveries_is_q_times_that_of_inliers(ties: bool, stored: int) -> None:
    """Calibration and source drawn anew each time; with ties, and with a sketch of the order statistics, it is no more."""
    rng = np.random.default_rng(7)
    q, inliers, outliers, n, draws = 0.2, 200, 50, 199, 300
    half = stored // 2
    ranks = np.unique(np.append(np.arange(1, half + 1), np.linspace(half, n, half).round())).astype(int).tolist()
    proportions, power = [], []
    for _ in range(draws):
        calibration = rng.normal(size=n)
        source = np.append(rng.normal(size=inliers), rng.normal(-3, 1, outliers))
        own, scores = (each.round(1) if ties else each for each in (calibration, source))
        quantiles = np.sort(own)[np.array(ranks) - 1].tolist()
        p = np.array([p_value(score, ranks, quantiles) for score in scores.tolist()])
        found = discover(Counter(p.tolist()), q, 1 / (n + 1))
        rejected = p <= (found.threshold or 0)
        proportions.append(rejected[:inliers].sum() / max(1, rejected.sum()))
        power.append(rejected[inliers:].mean())
    standard_error = np.std(proportions) / np.sqrt(draws)
    assert np.mean(proportions) <= q * 0.8 + 3 * standard_error
    if not ties and stored == 199:
        assert np.mean(proportions) >= q * 0.8 - 3 * standard_error
    assert np.mean(power) > 0.6


def classes(gate: GateSpec, *labels: str) -> GateSpec:
    own = ClassPoint(50, gate.threshold, gate.tpr_interval, gate.max_rejection)
    return replace(gate, class_conditional=True, classes=dict.fromkeys(labels, own))


def test_p_values_of_classes_are_all_valid_or_refused(shared_bundle: Bundle) -> None:
    gate = shared_bundle.manifest.gate
    assert gate is not None
    for valid in (gate, classes(gate), classes(gate, *LABELS)):
        check(valid, LABELS, 0.1)
    with pytest.raises(
        NoDiscoveryGuarantee, match=r"1 of 3 classes \(ship..\) have no threshold of their own at alpha 0.1"
    ):
        check(classes(gate, "cat", "dog"), LABELS, 0.1)
    assert smallest(gate) == 1 / 100
    assert smallest(classes(gate, *LABELS)) == 1 / 51


@pytest.mark.parametrize("q", [0.0, 1.0, -1, float("nan")])
def test_a_rate_is_a_share(q: float, shared_bundle: Bundle) -> None:
    gate = shared_bundle.manifest.gate
    assert gate is not None
    with pytest.raises(CalibrationError, match="--fdr must be between 0 and 1"):
        check(gate, LABELS, q)
