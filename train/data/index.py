"""What a source says of its images before any of them is decoded: their names, where their bytes are, their labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from runtime.manifest import Task
from train.data.files import File
from train.data.labels.class_names import Row
from train.data.labels.matching import resolve
from train.data.report import Report

Labels = npt.NDArray[np.int64] | npt.NDArray[np.bool_]  # [N] indices of classes, or multi-hot [N, K]


@dataclass(frozen=True)
class Index:
    """N images that wait to be decoded.

    Attributes:
        names: N names.
        files: where the bytes of each are.
        labels: int64 [N], or multi-hot bool [N, K]; zeros where there are no classes.
        classes: K class names; none where the images have no labels.
        report: what is to be said of how they were found.
        synonyms: what the source's own files call its classes beside their names here.
        implied: whether nobody said labels, and the source's own name is the only one.
    """

    names: Sequence[str]
    files: Sequence[File]
    labels: Labels
    classes: tuple[str, ...]
    report: Report = field(default_factory=Report)
    synonyms: tuple[Row, ...] = ()
    implied: bool = False

    def __len__(self) -> int:
        return len(self.names)

    def select(self, positions: npt.NDArray[np.intp]) -> Index:
        """The images at `positions`, in that order; `classes` stay as they are."""
        return replace(
            self,
            names=[self.names[i] for i in positions],
            files=[self.files[i] for i in positions],
            labels=self.labels[positions],
        )

    def matched(self, labels: Sequence[str], synonyms: Sequence[Row] = ()) -> Index:
        """The same images, labelled by indices of a model's `labels` where each class is one of them beyond doubt.

        Otherwise as they are, or without labels where nobody said any. The report says which, and how.

        Args:
            labels: of the model, K; none of one without classes.
            synonyms: what classes are called beside their names here; the source's own files come after these.
        """
        if not self.classes or not labels:
            return self
        found = resolve(self.classes, labels, (*synonyms, *self.synonyms))
        if self.implied and None in found.indices:
            return unlabelled(self.names, self.files, self.report)
        report = replace(self.report, remarks=(*self.report.remarks, *found.remarks))
        if None in found.indices:
            return replace(self, report=report)
        indices = np.array(found.indices, dtype=np.int64)
        return replace(self, labels=relabelled(self.labels, indices, len(labels)), classes=tuple(labels), report=report)


def relabelled(labels: Labels, indices: npt.NDArray[np.int64], count: int) -> Labels:
    """Labels by other classes.

    Args:
        labels: int64 [N], or bool [N, K].
        indices: int64 [K], what each class becomes.
        count: how many classes there are then, K'.

    Returns:
        int64 [N], or bool [N, K'].
    """
    if labels.ndim == 1:
        return indices[labels]
    hot = np.zeros((len(labels), count), dtype=np.bool_)
    for column, index in enumerate(indices):
        hot[:, index] |= labels[:, column].astype(np.bool_)
    return hot


def task_of(labels: Labels) -> Task:
    """The task that labels of this kind are learned for."""
    return "multiclass" if labels.ndim == 1 else "multilabel"


def labelled(
    names: Sequence[str],
    files: Sequence[File],
    labels: Sequence[str],
    report: Report,
    synonyms: tuple[Row, ...] = (),
    classes: tuple[str, ...] | None = None,
) -> Index:
    """Images with one class name each; `classes` are those that there are, by name or all of them by number."""
    if classes is None:
        distinct = set(labels)
        classes = tuple(sorted(distinct, key=int if all(map(str.isdecimal, distinct)) else None))
    return Index(names, files, one_class(labels, classes), classes, report, synonyms)


def unlabelled(names: Sequence[str], files: Sequence[File], report: Report) -> Index:
    """Images without labels."""
    return Index(names, files, np.zeros(len(names), dtype=np.int64), (), replace(report, labels="no labels"))


def multilabelled(
    names: Sequence[str], files: Sequence[File], labels: Sequence[Sequence[str]], report: Report
) -> Index:
    """Images with any number of class names each."""
    classes = tuple(sorted({label for of_image in labels for label in of_image}))
    return Index(names, files, multi_hot(labels, classes), classes, report)


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
