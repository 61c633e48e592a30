"""Detection metrics. Scores are oriented as everywhere: higher means more in-distribution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from export.metrics.intervals import Interval, false_positive_rate, from_influence, lowest_average_precision, separation

Scores = npt.NDArray[np.floating]
Influence = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Detection:
    """How well one score separates in-distribution (ID) from out-of-distribution (OOD) images; all in [0, 1].

    Attributes:
        auroc: probability that an ID image scores above an OOD image, ties counted half.
        aupr_in, aupr_out: average precision with ID, respectively OOD, as the positive class.
        fpr95_id_positive: share of OOD images accepted where at least 95 % of ID images are (the papers' FPR95).
        fpr95_ood_positive: share of ID images flagged where at least 95 % of OOD images are (OpenOOD's FPR@95).
    """

    auroc: float
    aupr_in: float
    aupr_out: float
    fpr95_id_positive: float
    fpr95_ood_positive: float


@dataclass(frozen=True)
class DetectionIntervals:
    """95 % intervals (low, high) of the figures of :class:`Detection`."""

    auroc: Interval
    aupr_in: Interval
    aupr_out: Interval
    fpr95_id_positive: Interval
    fpr95_ood_positive: Interval


def detection(id_scores: Scores, ood_scores: Scores) -> Detection:
    """Metrics of ID scores (n,) against OOD scores (m,)."""
    truth = np.concatenate([np.ones(len(id_scores)), np.zeros(len(ood_scores))])
    scores = np.concatenate([id_scores, ood_scores])
    return Detection(
        auroc=float(roc_auc_score(truth, scores)),
        aupr_in=min(1.0, float(average_precision_score(truth, scores))),  # a sum that rounding may lift above 1
        aupr_out=min(1.0, float(average_precision_score(1 - truth, -scores))),
        fpr95_id_positive=fpr_at_tpr(id_scores, ood_scores),
        fpr95_ood_positive=fpr_at_tpr(-ood_scores, -id_scores),
    )


def detection_intervals(id_scores: Scores, ood_scores: Scores, figures: Detection) -> DetectionIntervals:
    """The intervals of `figures`, which :func:`detection` returned for the same scores.

    Images are taken as independent draws of ID and of OOD images, and AUPR is that of this proportion of the two. Where
    the sample separates perfectly, or all of it ties, the intervals reach to what so many equal pairs leave open.
    """
    n, m = len(id_scores), len(ood_scores)
    auroc = from_influence(figures.auroc, *auroc_influence(id_scores, ood_scores))
    aupr_in = from_influence(figures.aupr_in, *average_precision_influence(id_scores, ood_scores))
    aupr_out = from_influence(figures.aupr_out, *average_precision_influence(-ood_scores, -id_scores))
    if id_scores.min() > ood_scores.max():
        error = separation(min(n, m))
        auroc = (1 - error, 1.0)
        aupr_in = (lowest_average_precision(n, m, error), 1.0)
        aupr_out = (lowest_average_precision(m, n, error), 1.0)
    elif id_scores.max() < ood_scores.min():
        auroc = (0.0, separation(min(n, m)))
    elif id_scores.min() == id_scores.max() == ood_scores.min() == ood_scores.max():
        error = separation(min(n, m))  # of pairs that do not tie
        auroc = (0.5 - error / 2, 0.5 + error / 2)
    return DetectionIntervals(
        auroc=auroc,
        aupr_in=aupr_in,
        aupr_out=aupr_out,
        fpr95_id_positive=false_positive_rate(id_scores, ood_scores, 0.95, figures.fpr95_id_positive),
        fpr95_ood_positive=false_positive_rate(-ood_scores, -id_scores, 0.95, figures.fpr95_ood_positive),
    )


def fpr_at_tpr(positives: Scores, negatives: Scores, tpr: float = 0.95) -> float:
    """The false-positive rate at the first (highest) threshold whose true-positive rate reaches `tpr`.

    Only thresholds that occur as scores count; nothing is interpolated.
    """
    truth = np.concatenate([np.ones(len(positives)), np.zeros(len(negatives))])
    fprs, tprs, _ = roc_curve(truth, np.concatenate([positives, negatives]), drop_intermediate=False)
    return float(fprs[np.argmax(tprs >= tpr)])


def auroc_influence(positives: Scores, negatives: Scores) -> tuple[Influence, Influence]:
    """What each positive (n,) and each negative (m,) adds to AUROC: its placement among the others, centred (DeLong)."""
    placed = 1 - _share_above(negatives, positives)
    outscored = _share_above(positives, negatives)
    return placed - placed.mean(), outscored - outscored.mean()


def _share_above(scores: Scores, at: Scores) -> Influence:
    """The share of `scores` above each of `at`, ties counted half."""
    ordered = np.sort(scores)
    rank = np.searchsorted(ordered, at, side="left") + np.searchsorted(ordered, at, side="right")
    return np.asarray(1 - rank / (2 * len(scores)))


def average_precision_influence(positives: Scores, negatives: Scores) -> tuple[Influence, Influence]:
    """What each positive (n,) and each negative (m,) adds to average precision at the proportion n to m.

    AP is the mean over positives of the precision p = n S / (n S + m Z), S and Z being the shares of positives and
    negatives that score at least as high. An observation at s moves S and Z at every positive up to s, and a positive
    adds its own precision too.
    """
    n, m = len(positives), len(negatives)
    x, y = np.sort(positives), np.sort(negatives)
    s = 1 - np.searchsorted(x, x, side="left") / n
    z = 1 - np.searchsorted(y, x, side="left") / m
    square = (n * s + m * z) ** 2
    by_positive = np.concatenate([[0], np.cumsum(n * m * z / square)]) / n
    by_negative = np.concatenate([[0], np.cumsum(-n * m * s / square)]) / n
    precision = (n * s / (n * s + m * z))[np.searchsorted(x, positives, side="left")]
    of_positives = precision + by_positive[np.searchsorted(x, positives, side="right")]
    of_negatives = by_negative[np.searchsorted(x, negatives, side="right")]
    return of_positives - of_positives.mean(), of_negatives - of_negatives.mean()
