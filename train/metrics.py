"""How good a classifier's predictions are, as one number."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score


def accuracy(logits: npt.NDArray[np.floating], labels: npt.NDArray[np.generic]) -> float:
    """Share of the rows of `logits` (N, K) whose largest value is at the label (N,)."""
    return float((logits.argmax(axis=1) == labels).mean())


def mean_average_precision(logits: npt.NDArray[np.floating], labels: npt.NDArray[np.generic]) -> float:
    """Average precision of each label, the area under its precision-recall steps, and their mean (mAP).

    Args:
        logits: (N, K).
        labels: multi-hot (N, K). A label that no image has is left out of the mean.

    Returns:
        in [0, 1]; NaN where no image has any label.
    """
    present = np.any(labels, axis=0)
    if not present.any():
        return float("nan")
    return float(average_precision_score(labels[:, present], logits[:, present], average="macro"))
