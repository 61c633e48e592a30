"""Hyperparameters that are chosen for each network, by training images and outliers."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from export.detectors.interface import F, Training
from export.exceptions import ExportError

# Of the training images so many at random: the standard error of an AUROC is then about 0.01.
_KNOWN = 2000


def best(candidates: Iterable[F], training: Training) -> F:
    """The one with the largest mean AUROC between training images and the sets of outliers; of equals the first.

    Raises:
        ExportError: no candidates, or several and no outliers to choose by.
    """
    found = list(candidates)
    if not found:
        raise ExportError("no setting that is tried fits the one that is given; give both by --set")
    if len(found) == 1:
        return found[0]
    if not training.outliers:
        raise ExportError("its settings are chosen by outliers, and there are none; give them by --set")
    chosen = np.random.default_rng(training.seed).permutation(len(training.logits))[:_KNOWN]
    logits, penultimate = training.logits[chosen], training.penultimate[chosen]

    def mean_auroc(candidate: F) -> float:
        known = candidate.reference(logits, penultimate)
        sets = training.outliers.values()
        return float(np.mean([auroc(known, candidate.reference(one.logits, one.penultimate)) for one in sets]))

    return max(found, key=mean_auroc)


def auroc(known: npt.NDArray[np.floating], outliers: npt.NDArray[np.floating]) -> float:
    """Probability that an in-distribution score (n,) is above an outlier's (m,), ties counted half.

    An outlier's score that is not finite rejects, so it counts as the lowest.
    """
    scores = np.concatenate([known, outliers]).astype(np.float64)
    finite = np.isfinite(scores)
    scores[~finite] = np.nextafter(scores[finite].min(), -np.inf)
    return float(roc_auc_score(np.repeat([1, 0], [len(known), len(outliers)]), scores))
