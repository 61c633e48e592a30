"""Accuracy and mean average precision against numbers worked out by hand and by scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from train.metrics import accuracy, mean_average_precision


def test_accuracy() -> None:
    logits = np.array([[0.1, 0.2], [3.0, -1.0], [-2.0, -3.0], [0.0, 5.0]])
    assert accuracy(logits, np.array([1, 0, 1, 1])) == 0.75


def test_mean_average_precision_by_hand() -> None:
    """Of the first label the positives are 1st and 3rd: (1/1 + 2/3) / 2; of the second 2nd and 4th: (1/2 + 2/4) / 2."""
    logits = np.array([[9.0, 4], [8, 3], [7, 2], [6, 1]])
    labels = np.array([[1, 0], [0, 1], [1, 0], [0, 1]], dtype=bool)
    assert mean_average_precision(logits, labels) == pytest.approx((5 / 6 + 1 / 2) / 2)


def test_labels_that_no_image_has_are_left_out() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(40, 6)), rng.random((40, 6)) < 0.3
    labels[:, [1, 4]] = False
    each = [average_precision_score(labels[:, k], logits[:, k]) for k in (0, 2, 3, 5)]
    assert mean_average_precision(logits, labels) == pytest.approx(np.mean(each))


@pytest.mark.parametrize("of", [0, 2])
def test_one_label_present(of: int) -> None:
    labels = np.zeros((4, 3), dtype=bool)
    labels[1:3, of] = True
    logits = np.tile([[1.0], [4], [2], [3]], 3)
    assert mean_average_precision(logits, labels) == pytest.approx((1 + 2 / 3) / 2)


def test_a_label_that_every_image_has() -> None:
    assert mean_average_precision(np.ones((3, 2)), np.array([[1, 0]] * 3, dtype=bool)) == 1


def test_ties_count_together() -> None:
    """One threshold accepts all four: precision 1/4 at recall 1."""
    labels = np.array([[0], [1], [0], [0]], dtype=bool)
    assert mean_average_precision(np.zeros((4, 1)), labels) == 0.25


def test_no_label_at_all() -> None:
    assert math.isnan(mean_average_precision(np.ones((3, 2)), np.zeros((3, 2), dtype=bool)))
