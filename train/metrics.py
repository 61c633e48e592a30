"""How well a multi-label classifier ranks images."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score

from train.data import Labels
from train.exceptions import DataError


def mean_average_precision(scores: npt.NDArray[np.floating], labels: Labels) -> float:
    """The mean over labels of the average precision (AP) with which a label's scores find the images that have it.

        AP = sum_n (R_n - R_{n-1}) P_n

    over the distinct scores in descending order, P_n and R_n being precision and recall among all images that score at
    least as high: no interpolation, as scikit-learn's ``average_precision_score`` has it. Of a label that every image has
    AP is 1, whatever the order, and counts. Of a label that no image has recall is 0 / 0, and it is left out. So do
    torchmetrics' ``MultilabelAveragePrecision`` and COCO's evaluation; on VOC every class occurs.

    Args:
        scores: (N, K), logits or probabilities: a strictly monotone function makes no difference. One that is not a number
            ranks last.
        labels: multi-hot (N, K).

    Returns:
        mAP in [0, 1].

    Raises:
        DataError: no image has a label.
    """
    present = labels.any(axis=0)
    if not present.any():
        raise DataError("none of the images has a label, so that there is no average precision")
    return float(average_precision_score(labels[:, present], comparable(scores[:, present]), average="macro"))


def comparable(scores: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Scores as finite numbers in the same order; one that is not a number is last, level with -inf."""
    finite: npt.NDArray[np.floating] = np.nan_to_num(scores, nan=float(np.finfo(scores.dtype).min))
    return finite
