"""Detection metrics. Scores are oriented as everywhere: higher means more in-distribution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

Scores = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Detection:
    """How well one score separates in-distribution (ID) from out-of-distribution (OOD) images; all in [0, 1].

    Attributes:
        auroc: probability that an ID image scores above an OOD image, ties counted half.
        aupr_in, aupr_out: average precision with ID, respectively OOD, as the positive class.
        fpr95_id_positive: share of OOD images accepted where at least 95 % of ID images are (the papers' FPR95).
        fpr95_ood_positive: share of ID images flagged where at least 95 % of OOD images are.
    """

    auroc: float
    aupr_in: float
    aupr_out: float
    fpr95_id_positive: float
    fpr95_ood_positive: float


def detection(id_scores: Scores, ood_scores: Scores) -> Detection:
    """Metrics of ID scores (n,) against OOD scores (m,)."""
    truth = np.concatenate([np.ones(len(id_scores)), np.zeros(len(ood_scores))])
    scores = np.concatenate([id_scores, ood_scores])
    return Detection(
        auroc=float(roc_auc_score(truth, scores)),
        aupr_in=float(average_precision_score(truth, scores)),
        aupr_out=float(average_precision_score(1 - truth, -scores)),
        fpr95_id_positive=fpr_at_tpr(id_scores, ood_scores),
        fpr95_ood_positive=fpr_at_tpr(-ood_scores, -id_scores),
    )


def fpr_at_tpr(positives: Scores, negatives: Scores, tpr: float = 0.95) -> float:
    """The false-positive rate at the first (highest) threshold whose true-positive rate reaches `tpr`.

    Only thresholds that occur as scores count; nothing is interpolated.
    """
    truth = np.concatenate([np.ones(len(positives)), np.zeros(len(negatives))])
    fprs, tprs, _ = roc_curve(truth, np.concatenate([positives, negatives]), drop_intermediate=False)
    return float(fprs[np.argmax(tprs >= tpr)])
