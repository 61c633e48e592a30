"""Mean average precision against scikit-learn, and its interval against the bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

import train.metrics
from export.metrics.multilabel import influence, mean_average_precision


def test_equals_scikit_learn(rng: np.random.Generator) -> None:
    logits, labels = rng.normal(size=(60, 4)).round(1), rng.random((60, 4)) < 0.3
    found = mean_average_precision(logits, labels)
    assert found is not None
    assert found.value == pytest.approx(average_precision_score(labels, logits, average="macro"))
    assert found.labels == 4


def test_the_one_definition_of_training_and_evaluation(rng: np.random.Generator) -> None:
    """A label that every image has counts with a precision of 1, one that no image has is left out; by brute force."""
    logits, labels = rng.normal(size=(60, 4)).round(1), rng.random((60, 4)) < 0.3
    labels[:, 0], labels[:, 2] = False, True
    logits[5, 1] = logits[7, 2] = np.nan
    found = mean_average_precision(logits, labels)
    assert found is not None
    assert found.labels == 3
    precisions = []
    for scores, having in zip(np.where(np.isnan(logits), -1e9, logits).T[1:], labels.T[1:], strict=True):
        precisions.append(np.mean([having[scores >= score].mean() for score in scores[having]]))
    assert precisions[1] == 1
    assert found.value == train.metrics.mean_average_precision(logits, labels) == pytest.approx(np.mean(precisions))


def test_a_label_that_every_image_has_narrows_the_interval(rng: np.random.Generator) -> None:
    """Its precision of 1 does not vary: the spread of the mean over two labels is half that of the other."""
    logits, labels = rng.normal(size=(400, 2)), rng.random((400, 2)) < 0.3
    labels[:, 1] = True
    both, one = mean_average_precision(logits, labels), mean_average_precision(logits[:, :1], labels[:, :1])
    assert both is not None
    assert one is not None
    assert both.value == pytest.approx((one.value + 1) / 2)
    assert np.ptp(both.interval) == pytest.approx(np.ptp(one.interval) / 2, rel=0.05)


def test_no_label_at_all() -> None:
    assert mean_average_precision(np.zeros((5, 2)), np.zeros((5, 2), bool)) is None


def test_influence_is_the_derivative_by_an_images_weight(rng: np.random.Generator) -> None:
    """scikit-learn's weighted average precision, differenced; many scores tie."""
    scores, labels, step = rng.integers(0, 12, 40).astype(float), rng.random(40) < 0.4, 1e-6
    found = influence(scores, labels)
    assert found.mean() == pytest.approx(0, abs=1e-12)
    for index, value in enumerate(found):
        changed = []
        for sign in (1, -1):
            weights = np.full(40, (1 - sign * step) / 40)
            weights[index] += sign * step
            changed.append(average_precision_score(labels, scores, sample_weight=weights))
        assert value == pytest.approx((changed[0] - changed[1]) / (2 * step), abs=1e-6)


def test_the_interval_is_as_wide_as_the_bootstraps_over_images(rng: np.random.Generator) -> None:
    """Labels of an image occur together, so that images, not labels, must be drawn."""
    shared = rng.normal(size=(400, 1))
    labels = shared + rng.normal(size=(400, 3)) > 0.8
    logits = labels + shared + rng.normal(size=(400, 3))
    found = mean_average_precision(logits, labels)
    assert found is not None
    draws = []
    for _ in range(200):
        drawn = rng.integers(0, 400, 400)
        draws.append(average_precision_score(labels[drawn], logits[drawn], average="macro"))
    low, high = found.interval
    assert low < found.value < high
    assert high - low == pytest.approx(np.subtract(*np.quantile(draws, [0.975, 0.025])), rel=0.3)


def test_a_perfect_order_leaves_errors_open() -> None:
    """Of 10 and of 40 images with a label among 50: each label's lowest AP, where a share p of negatives is above all."""
    labels = np.stack([np.arange(50) < 10, np.arange(50) < 40], axis=1)
    found = mean_average_precision(np.where(labels, 1.0, -1.0) + np.arange(100).reshape(50, 2) / 1000, labels)
    assert found is not None
    p, at = 1 - 0.025**0.1, np.linspace(5e-7, 1 - 5e-7, 10**6)
    lowest = [np.mean(n * at / (n * at + (50 - n) * p)) for n in (10, 40)]
    assert found.value == 1
    assert found.interval == pytest.approx((np.mean(lowest), 1), abs=1e-4)
