"""Shifted images: what the gate does to them, counted by hand, and detection with them among the known ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import beta
from sklearn.metrics import roc_auc_score

from export.metrics.observation import Observed
from export.metrics.shift import full_spectrum, shifted


def observed(accept: list[int], right: list[int] | None, scores: list[float] | None = None) -> Observed:
    n = len(accept)
    labels = None if right is None else np.zeros(n, np.int64)
    predicted = np.zeros(n, np.int64) if right is None else 1 - np.array(right)
    columns = np.array([scores or [0.0] * n, [-value for value in scores or [0.0] * n]], np.float32).T
    hashes = np.arange(n, dtype=np.uint64)
    return Observed("s", columns, np.array(accept, np.bool_), predicted, np.zeros(n), hashes, labels)


def test_rejections_and_accuracies() -> None:
    found = shifted(observed([1, 1, 0, 0, 0, 0, 0, 0], [1, 0, 1, 1, 1, 1, 1, 0]), 0.9)
    assert (found.images, found.rejection) == (8, 0.75)
    assert (found.accuracy, found.accuracy_accepted, found.accuracy_rejected) == (0.75, 0.5, 5 / 6)
    assert found.rejection_interval == pytest.approx((beta.ppf(0.025, 6, 3), beta.ppf(0.975, 7, 2)))
    assert found.accuracy_rejected_interval == pytest.approx((beta.ppf(0.025, 5, 2), beta.ppf(0.975, 6, 1)))


@pytest.mark.parametrize(
    ("accept", "right", "accuracy", "needless"),
    [
        ([0, 0, 0, 1], [1, 1, 1, 0], 1.0, True),  # three quarters of them right, as many of the clean ones' accuracy
        ([0, 0, 0, 1], [1, 1, 0, 0], 1.0, False),  # half: the model does not classify them well
        ([0, 0, 0, 1], [1, 1, 0, 0], 0.6, True),  # it is no better on clean ones
        ([0, 0, 1, 1], [1, 1, 1, 1], 1.0, False),  # no more than half are rejected
        ([0, 0, 0, 1], None, 1.0, None),
        ([0, 0, 0, 1], [1, 1, 1, 1], None, None),
    ],
)
def test_what_is_rejected_without_need(
    accept: list[int], right: list[int] | None, accuracy: float | None, needless: bool | None
) -> None:
    assert shifted(observed(accept, right), accuracy).needless is needless


def test_images_that_are_rejected_as_uncertain_are_not_taken_for_unknown() -> None:
    images = observed([0, 0, 0, 1], [1, 1, 1, 1])
    found = shifted(replace(images, known=np.array([True, True, False, True])), 1.0)
    assert (found.rejection, found.uncertain) == (0.75, 0.5)
    assert found.needless is False
    assert shifted(images, 1.0).uncertain is None


def test_nothing_accepted() -> None:
    found = shifted(observed([0, 0], [1, 0]), 0.5)
    assert (found.accuracy_accepted, found.accuracy_accepted_interval) == (None, None)
    assert (found.accuracy, found.accuracy_rejected) == (0.5, 0.5)


def test_shifted_images_count_as_known() -> None:
    known, blur, night = [3.0, 4.0, 5.0], [1.0, 2.0], [2.5]
    ood = [0.0, 1.5, 3.5]
    moved = [observed([1] * len(values), None, values) for values in (blur, night)]
    found = full_spectrum(
        ("a", "b"), observed([1] * 3, None, known), moved, {"far": observed([0] * len(ood), None, ood)}
    )
    expected = roc_auc_score([1] * 6 + [0] * 3, known + blur + night + ood)
    assert found["far"]["a"].auroc == pytest.approx(expected)
    assert found["far"]["b"].auroc == pytest.approx(1 - expected)
    assert found["far"]["a"].fpr95_id_positive == pytest.approx(1 / 3 + 1 / 3)  # all known are above 0.0 alone


def test_no_full_spectrum_without_shifted_images() -> None:
    known = observed([1], None, [1.0])
    assert full_spectrum(("a", "b"), known, [], {"far": known}) == {}
