"""Differences of two artifacts' outputs, counted by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from export.exceptions import ExportError
from export.parity.difference import Flips, compare
from runtime.engines.interface import Outputs
from runtime.manifest import ClassPoint, Manifest, OrderStatistics
from tests.export.figures import CALIBRATION, MANIFEST

# Energies of six images, the second column of the scores, and the classes that are predicted.
A = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
B = np.array([1.5, 2.0, 2.5, 4.5, 4.4, 6.5])


def outputs(energies: np.ndarray, classes: tuple[int, ...] = (0,) * 6) -> Outputs:
    logits = np.eye(3, dtype=np.float32)[list(classes)]
    scores = np.stack([np.full(6, 0.5), energies], axis=1).astype(np.float32)
    return Outputs(logits, scores)


def at(threshold: float, **changes: object) -> Manifest:
    assert MANIFEST.gate is not None
    return replace(MANIFEST, gate=replace(MANIFEST.gate, threshold=threshold, **changes))  # type: ignore[arg-type]


def test_flips() -> None:
    found = compare("val", at(3.0), outputs(A), at(4.45), outputs(B))
    assert found.images == 6
    assert found.flips == Flips(newly_rejected=2, newly_accepted=0)  # 3.0 and 5.0 against 2.5 and 4.4
    assert found.flips_with_a_threshold == Flips(1, 0)  # B's 2.5 is below 3.0
    assert found.flips_with_b_threshold == Flips(
        1, 1
    )  # A's 5.0 is above 4.45 and B's 4.4 below; 4.0 and 4.5 vice versa
    assert found.flips.total == 2


def test_differences() -> None:
    found = compare("val", at(3.0), outputs(A), at(3.0), outputs(B, (0, 0, 0, 1, 0, 0)))
    assert found.label_agreement == pytest.approx(5 / 6)
    assert found.logits.max == 1
    assert found.logits.mean == pytest.approx(2 / 18)
    assert found.scores["msp"].max == 0
    spread = found.scores["energy"]
    assert (spread.mean, spread.max) == (pytest.approx(2.6 / 6, rel=1e-6), pytest.approx(0.6, rel=1e-6))
    assert spread.quantiles == pytest.approx(np.quantile([0.5, 0, 0.5, 0.5, 0.6, 0.5], [0.5, 0.9, 0.99]), rel=1e-6)


def test_gates_of_different_scores_share_no_threshold() -> None:
    found = compare("val", at(3.0), outputs(A), at(0.4, score="msp"), outputs(B))
    assert found.flips == Flips(0, 2)
    assert found.flips_with_a_threshold is None
    assert found.flips_with_b_threshold is None
    assert found.summary().flips_with_fp32_threshold is None


def test_columns_made_with_other_temperatures_share_no_threshold() -> None:
    made = [replace(at(3.0), score_parameters={"confidence": {"temperature": t}}) for t in (1.0, 1.0, 1.5)]
    assert compare("val", made[0], outputs(A), made[1], outputs(B)).flips_with_a_threshold is not None
    found = compare("val", made[0], outputs(A), made[2], outputs(B))
    assert found.flips_with_a_threshold is found.flips_with_b_threshold is None


def test_thresholds_by_class() -> None:
    own = ClassPoint(n=100, threshold=6.2, tpr_interval=(0.9, 1.0), max_rejection=0.1)
    statistics = {"dog": OrderStatistics(100, (100,), (9.0,))}
    a = at(3.0, classes={"dog": own}, class_conditional=True, calibration=replace(CALIBRATION, classes=statistics))
    b, classes = at(3.0), (0, 0, 0, 1, 1, 1)
    found = compare("val", a, outputs(A, classes), b, outputs(B, classes))
    assert found.flips == Flips(1, 3)
    assert found.flips_with_a_threshold == Flips(1, 1)  # by class B accepts 6.5 alone
    assert found.flips_with_b_threshold == Flips(1, 0)  # at 3.0 A accepts the last four


def test_a_score_that_is_not_finite_is_rejected_at_any_threshold() -> None:
    broken = outputs(B)
    broken.scores[5, 0] = np.nan
    found = compare("val", at(3.0), outputs(A), at(3.0), broken)
    assert found.flips_with_a_threshold == Flips(2, 0)


def test_the_summary_for_a_manifest() -> None:
    parity = compare("val", at(3.0), outputs(A), at(4.45), outputs(B)).summary()
    assert (parity.source, parity.images, parity.label_agreement) == ("val", 6, 1.0)
    assert (parity.newly_rejected, parity.newly_accepted, parity.flips_with_fp32_threshold) == (2, 0, 1)


def test_logits_that_are_not_finite() -> None:
    broken = outputs(A)
    broken.logits[2, 1] = np.inf
    with pytest.raises(ExportError, match="logits of images of val are not finite"):
        compare("val", at(3.0), outputs(A), at(3.0), broken)


def test_an_artifact_without_a_threshold() -> None:
    with pytest.raises(ExportError, match=r"has no threshold yet: run oodgate calibrate"):
        compare("val", at(3.0), outputs(A), replace(MANIFEST, gate=None), outputs(B))
