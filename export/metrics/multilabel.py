"""Mean average precision of a multi-label classifier, :func:`train.metrics.mean_average_precision`, with its interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from export.metrics.intervals import Interval, from_influence, lowest_average_precision, separation
from train import metrics


@dataclass(frozen=True)
class MeanAveragePrecision:
    """Average precision of each label's logit, averaged over the labels that some image has.

    Attributes:
        value, interval: the mean, and its 95 % interval over images.
        labels: how many labels were averaged.
    """

    value: float
    interval: Interval
    labels: int


def mean_average_precision(
    logits: npt.NDArray[np.floating], labels: npt.NDArray[np.bool_]
) -> MeanAveragePrecision | None:
    """From logits and multi-hot labels, both (N, K); None where no image has a label."""
    present = np.flatnonzero(labels.any(axis=0))
    if not len(present):
        return None
    value = metrics.mean_average_precision(logits, labels)
    ranked = metrics.comparable(logits)
    if value == 1:
        interval = (float(np.mean([_lowest(labels[:, k]) for k in present])), 1.0)
    else:
        interval = from_influence(value, np.mean([influence(ranked[:, k], labels[:, k]) for k in present], axis=0))
    return MeanAveragePrecision(value, interval, len(present))


def _lowest(positive: npt.NDArray[np.bool_]) -> float:
    """The lowest average precision of a label that images whose order is perfect leave open."""
    n, m = int(positive.sum()), int((~positive).sum())
    return lowest_average_precision(n, m, separation(min(n, m))) if m else 1.0


def influence(scores: npt.NDArray[np.floating], positive: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """What each image adds to one label's average precision, when the number of positives is random too.

    AP is the mean over positives of p = A / (A + B), A and B being the numbers of positives and negatives that score
    at least as high. An image at s moves p at every positive up to s, a positive by (1 - p) / (A + B), a negative by
    -p / (A + B), and a positive adds its own precision less the mean.
    """
    n, count = len(scores), int(positive.sum())
    x, y = np.sort(scores[positive]), np.sort(scores[~positive])
    a = count - np.searchsorted(x, x, side="left")
    covered = a + (n - count) - np.searchsorted(y, x, side="left")
    precision = a / covered
    gain = np.concatenate([[0], np.cumsum((1 - precision) / covered)])
    loss = np.concatenate([[0], np.cumsum(precision / covered)])
    upto = np.searchsorted(x, scores, side="right")
    moved = np.where(positive, gain[upto], -loss[upto])
    own = precision[np.searchsorted(x, scores[positive], side="left")]
    moved[positive] += own - precision.mean()
    return np.asarray(moved * n / count)
