"""Detection metrics, by counting pairs and thresholds; FPR95 on examples worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn import metrics as sklearn_metrics

from benchmarks.bootstrap_coverage import bootstrap, from_counts
from export.metrics.detection import (
    auroc_influence,
    average_precision_influence,
    detection,
    detection_intervals,
    fpr_at_tpr,
)

Array = npt.NDArray[np.float64]


def auroc(known: Array, unknown: Array) -> float:
    """Share of pairs in order, ties counted half."""
    return float(np.mean((known[:, None] > unknown) + 0.5 * (known[:, None] == unknown)))


def average_precision(positives: Array, negatives: Array) -> float:
    """Sum over descending thresholds of precision times the recall gained."""
    total, recall = 0.0, 0.0
    for threshold in np.unique(np.concatenate([positives, negatives]))[::-1]:
        true, false = (positives >= threshold).sum(), (negatives >= threshold).sum()
        total += (true / len(positives) - recall) * true / (true + false)
        recall = true / len(positives)
    return total


def fpr95(positives: Array, negatives: Array) -> float:
    """False positives at the highest threshold that keeps 95 % of the positives."""
    kept = [
        t
        for t in np.unique(np.concatenate([positives, negatives]))
        if 100 * (positives >= t).sum() >= 95 * len(positives)
    ]
    return float(np.mean(negatives >= max(kept)))


@pytest.fixture(params=["separate", "overlapping", "tied", "reversed", "few"])
def samples(request: pytest.FixtureRequest, rng: np.random.Generator) -> tuple[Array, Array]:
    known, unknown = {
        "separate": (rng.normal(9, 1, 200), rng.normal(0, 1, 150)),
        "overlapping": (rng.normal(1, 1, 200), rng.normal(0, 1, 150)),
        "tied": (rng.integers(2, 8, 200).astype(float), rng.integers(0, 6, 150).astype(float)),
        "reversed": (rng.normal(0, 1, 100), rng.normal(1, 1, 100)),
        "few": (np.array([1.0]), np.array([0.0, 2.0])),
    }[request.param]
    return known, unknown


def test_equal_brute_force(samples: tuple[Array, Array]) -> None:
    known, unknown = samples
    found = detection(known, unknown)
    assert found.auroc == pytest.approx(auroc(known, unknown), abs=1e-12)
    assert found.aupr_in == pytest.approx(average_precision(known, unknown), abs=1e-12)
    assert found.aupr_out == pytest.approx(average_precision(-unknown, -known), abs=1e-12)
    assert found.fpr95_id_positive == pytest.approx(fpr95(known, unknown), abs=1e-12)
    assert found.fpr95_ood_positive == pytest.approx(fpr95(-unknown, -known), abs=1e-12)


def test_equal_scikit_learn(samples: tuple[Array, Array]) -> None:
    known, unknown = samples
    found = detection(known, unknown)
    scores = np.concatenate([known, unknown])
    is_known = np.arange(len(scores)) < len(known)
    assert found.auroc == pytest.approx(sklearn_metrics.roc_auc_score(is_known, scores))
    assert found.aupr_in == pytest.approx(sklearn_metrics.average_precision_score(is_known, scores))
    assert found.aupr_out == pytest.approx(sklearn_metrics.average_precision_score(~is_known, -scores))


def test_float32_scores_are_taken_as_they_are(rng: np.random.Generator) -> None:
    known, unknown = rng.normal(1, 1, 50).astype(np.float32), rng.normal(0, 1, 50).astype(np.float32)
    assert detection(known, unknown) == detection(known.astype(np.float64), unknown.astype(np.float64))


def test_perfect_separation() -> None:
    found = detection(np.array([3.0, 4.0]), np.array([1.0, 2.0]))
    assert (found.auroc, found.aupr_in, found.aupr_out) == (1, 1, 1)
    assert (found.fpr95_id_positive, found.fpr95_ood_positive) == (0, 0)


def test_equal_scores_are_worth_nothing() -> None:
    found = detection(np.ones(30), np.ones(10))
    assert (found.auroc, found.aupr_in, found.aupr_out) == (0.5, 0.75, 0.25)
    assert (found.fpr95_id_positive, found.fpr95_ood_positive) == (1, 1)


ID = np.arange(1.0, 21)  # 1 to 20


def test_fpr95_id_positive_by_hand() -> None:
    """19 of 20 ID images are kept at 2, where 2.5 and 9 of the four OOD images are accepted."""
    assert detection(ID, np.array([0.5, 1.5, 2.5, 9.0])).fpr95_id_positive == 0.5


def test_fpr95_id_positive_counts_an_ood_image_on_the_threshold_as_accepted() -> None:
    assert detection(ID, np.array([0.5, 1.0, 2.0, 1.9])).fpr95_id_positive == 0.25


def test_fpr95_id_positive_where_ties_keep_more_than_95_percent() -> None:
    """Two ID images share the lowest score, so all 20 are kept, at 1, where both OOD images of 1 are accepted."""
    known = np.array([1.0, 1.0, *range(3, 21)])
    assert detection(known, np.array([0.0, 1.0, 1.0, 0.5])).fpr95_id_positive == 0.5


def test_fpr95_ood_positive_by_hand() -> None:
    """19 of 20 OOD images are flagged at 19 or below, and with them 5 and 18.5 of the four ID images."""
    assert detection(np.array([5.0, 18.5, 19.5, 30.0]), ID).fpr95_ood_positive == 0.5


def test_fpr95_ood_positive_counts_an_id_image_on_the_threshold_as_flagged() -> None:
    assert detection(np.array([19.0, 20.0, 21.0, 22.0]), ID).fpr95_ood_positive == 0.25


def test_the_two_conventions_differ() -> None:
    """One OOD image far above all ID images costs the first little, the second everything."""
    found = detection(ID, np.array([0.0, 0.0, 0.0, 99.0]))
    assert (found.fpr95_id_positive, found.fpr95_ood_positive) == (0.25, 1.0)


@pytest.mark.parametrize(("tpr", "expected"), [(0.05, 0.0), (0.5, 0.25), (0.55, 0.5), (1.0, 0.75)])
def test_other_true_positive_rates(tpr: float, expected: float) -> None:
    """At 20, 11, 10 and 1, against OOD scores 11.5, 10, 1 and 0."""
    assert fpr_at_tpr(ID, np.array([11.5, 10.0, 1.0, 0.0]), tpr) == expected


def weighted(known: Array, unknown: Array, which: str, index: int, step: float) -> tuple[Array, Array, Array]:
    """Truth, scores and weights where one image of one side has `step` more weight than the others of its side."""
    weights = {"known": np.ones(len(known)), "unknown": np.ones(len(unknown))}
    count = len(weights[which])
    weights[which] = np.full(count, 1 - step)
    weights[which][index] += step * count
    truth = np.concatenate([np.ones(len(known)), np.zeros(len(unknown))])
    return truth, np.concatenate([known, unknown]), np.concatenate(list(weights.values()))


@pytest.mark.parametrize(
    ("influence", "metric"),
    [
        (auroc_influence, sklearn_metrics.roc_auc_score),
        (average_precision_influence, sklearn_metrics.average_precision_score),
    ],
)
@pytest.mark.parametrize("tied", [False, True])
def test_influence_is_the_derivative_by_an_images_weight(
    influence: Any, metric: Any, tied: bool, rng: np.random.Generator
) -> None:
    """scikit-learn's weighted metrics, differenced."""
    known, unknown = rng.normal(1, 1, 30), rng.normal(0, 1, 20)
    if tied:
        known, unknown = known.round(), unknown.round()
    step = 1e-5
    for which, found in zip(("known", "unknown"), influence(known, unknown), strict=True):
        assert found.mean() == pytest.approx(0, abs=1e-12)
        for index, value in enumerate(found):
            truth, scores, weights = weighted(known, unknown, which, index, step)
            more = metric(truth, scores, sample_weight=weights)
            truth, scores, weights = weighted(known, unknown, which, index, -step)
            less = metric(truth, scores, sample_weight=weights)
            assert value == pytest.approx((more - less) / (2 * step), abs=1e-6)


def test_the_benchmarks_bootstrap_has_the_same_metrics(samples: tuple[Array, Array]) -> None:
    """Its counts of tied scores, all drawn once."""
    values, groups = np.unique(np.concatenate(samples), return_inverse=True)
    counts = [np.bincount(part, minlength=len(values))[None] for part in np.split(groups, [len(samples[0])])]
    figures = detection(*samples)
    for name, value in from_counts(*counts).items():
        assert value == pytest.approx(getattr(figures, name), abs=1e-12)


def test_intervals_are_as_wide_as_the_bootstraps(rng: np.random.Generator) -> None:
    known, unknown = rng.normal(1.5, 1, 300), rng.normal(0, 1, 200)
    intervals = detection_intervals(known, unknown, detection(known, unknown))
    for name, draws in bootstrap(known, unknown, 1000, rng).items():
        low, high = getattr(intervals, name)
        assert high - low == pytest.approx(np.subtract(*np.quantile(draws, [0.975, 0.025])), rel=0.2)


def test_intervals_hold_the_figures(samples: tuple[Array, Array]) -> None:
    known, unknown = samples
    figures = detection(known, unknown)
    intervals = detection_intervals(known, unknown, figures)
    for name, value in vars(figures).items():
        low, high = getattr(intervals, name)
        assert 0 <= low <= value <= high <= 1


def test_intervals_of_perfect_separation() -> None:
    """100 independent pairs in order leave open that p of all pairs are not, with (1 - p)^100 = 2.5 %."""
    known, unknown = np.arange(100.0, 300), np.arange(100.0)
    found = detection_intervals(known, unknown, detection(known, unknown))
    p = 1 - 0.025**0.01
    assert found.auroc == (pytest.approx(1 - p), 1)
    ordered = 200 * np.linspace(5e-7, 1 - 5e-7, 10**6)  # ID images at least as high, when p of OOD images are above all
    assert found.aupr_in == (pytest.approx(np.mean(ordered / (ordered + 100 * p)), abs=1e-4), 1)
    backwards = detection_intervals(unknown, known, detection(unknown, known))
    assert backwards.auroc == (0, pytest.approx(p))


def test_intervals_of_scores_that_all_tie() -> None:
    """40 pairs that tie leave open that p of all pairs do not, with (1 - p)^40 = 2.5 %, whichever way round."""
    found = detection_intervals(np.ones(40), np.ones(60), detection(np.ones(40), np.ones(60)))
    p = 1 - 0.025 ** (1 / 40)
    assert found.auroc == pytest.approx((0.5 - p / 2, 0.5 + p / 2))
