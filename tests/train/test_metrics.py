"""Mean average precision, against its definition."""

from __future__ import annotations

import numpy as np
import pytest

from train.exceptions import DataError
from train.metrics import mean_average_precision


def by_definition(scores: np.ndarray, labels: np.ndarray) -> float:
    """Mean, over images that have the label, of the precision among all that score at least as high."""
    precisions = []
    for score, truth in zip(scores.T, labels.T, strict=True):
        if truth.any():
            precisions.append(np.mean([truth[score >= s].mean() for s in score[truth]]))
    return float(np.mean(precisions))


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_equals_the_definition(rng: np.random.Generator, share: float) -> None:
    scores = rng.normal(size=(60, 9)).astype(np.float32)
    labels = rng.random((60, 9)) < share
    labels[:, 4], labels[:, 5] = False, True
    assert mean_average_precision(scores, labels) == pytest.approx(by_definition(scores, labels))
    assert mean_average_precision(1 / (1 + np.exp(-scores)), labels) == pytest.approx(by_definition(scores, labels))


def test_with_ties(rng: np.random.Generator) -> None:
    scores = rng.integers(0, 4, (50, 3)).astype(float)
    labels = rng.random((50, 3)) < 0.4
    assert mean_average_precision(scores, labels) == pytest.approx(by_definition(scores, labels))


def test_one_label_and_a_perfect_order() -> None:
    scores = np.array([[3.0], [1.0], [2.0]])
    assert mean_average_precision(scores, np.array([[True], [False], [True]])) == 1
    assert mean_average_precision(scores, np.array([[False], [True], [False]])) == pytest.approx(1 / 3)


def test_scores_that_are_not_finite() -> None:
    scores = np.array([[np.nan], [-1e30], [np.inf], [-np.inf]], dtype=np.float32)
    assert mean_average_precision(scores, np.array([[True], [False], [True], [False]])) == pytest.approx(
        (1 + 2 / 4) / 2
    )


def test_no_label_at_all() -> None:
    with pytest.raises(DataError, match="none of the images has a label"):
        mean_average_precision(np.zeros((4, 2)), np.zeros((4, 2), dtype=bool))
