"""Two kinds of labels: one class an image, or any number of classes an image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from runtime.manifest import Task

Labels = npt.NDArray[np.int64] | npt.NDArray[np.bool_]  # [N] indices of classes, or multi-hot [N, K]


def task_of(labels: Labels) -> Task:
    """The task that labels of this kind are learned for."""
    return "multiclass" if labels.ndim == 1 else "multilabel"


def one_class(names: Sequence[str], classes: Sequence[str]) -> npt.NDArray[np.int64]:
    """One class name an image -> its index in `classes`, int64 [N]."""
    index = {name: i for i, name in enumerate(classes)}
    return np.array([index[name] for name in names], dtype=np.int64)


def multi_hot(names: Sequence[Sequence[str]], classes: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Some class names an image -> bool [N, K]."""
    index = {name: i for i, name in enumerate(classes)}
    hot = np.zeros((len(names), len(classes)), dtype=np.bool_)
    for row, labels in zip(hot, names, strict=True):
        row[[index[name] for name in labels]] = True
    return hot
