"""How well a multi-label classifier ranks images."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score

from train.data.labels import Labels
from train.exceptions import DataError


def mean_average_precision(scores: npt.NDArray[np.floating], labels: Labels) -> float:
    """The mean over labels of the average precision with which a label's scores find the images that have it.

    A label that no image has is left out, since nothing can be found.

    Args:
        scores: float32 (N, K), logits or probabilities: a monotone function makes no difference. One that is not a
            number ranks last.
        labels: multi-hot (N, K).

    Returns:
        mAP in [0, 1].

    Raises:
        DataError: no image has a label.
    """
    present = labels.any(axis=0)
    ranked = np.nan_to_num(scores[:, present], nan=float(np.finfo(np.float32).min))
    if not present.any():
        raise DataError("none of the images has a label, so that there is no average precision")
    return float(average_precision_score(labels[:, present], ranked, average="macro"))
