"""What a source says of its images before any of them is decoded: their names, where their bytes are, their labels.

The labels of a directory or tar are its folders, or where an image may have several or none a ``labels.csv`` at its root:

    file,labels           this line may be missing
    street/1.png,car;dog
    street/2.png,         an image without labels
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from runtime.manifest import Task
from train.data.files import File, is_image, no_images
from train.exceptions import DataError

Labels = npt.NDArray[np.int64] | npt.NDArray[np.bool_]  # [N] indices of classes, or multi-hot [N, K]

LABELS_CSV = "labels.csv"
_HEADER = ["file", "labels"]


@dataclass(frozen=True)
class Index:
    """N images that wait to be decoded.

    Attributes:
        names: N names.
        files: where the bytes of each are.
        labels: int64 [N], or multi-hot bool [N, K].
        classes: K class names.
    """

    names: list[str]
    files: list[File]
    labels: Labels
    classes: tuple[str, ...]

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


def by_folder(path: Path, files: dict[str, File]) -> Index:
    """All images of a directory or tar, by class and name; images outside any folder have `path`'s name as class.

    Raises:
        DataError: no images.
    """
    labelled = sorted((PurePosixPath(name).parent.name or path.stem, name) for name in files if is_image(name))
    if not labelled:
        raise no_images(path, list(files))
    classes = tuple(sorted({label for label, _ in labelled}))
    names = [name for _, name in labelled]
    return Index(names, [files[name] for name in names], one_class([label for label, _ in labelled], classes), classes)


def by_labels_csv(path: Path, files: dict[str, File]) -> Index:
    """All images of a directory or tar, by name, with the labels that the file at ``files[LABELS_CSV]`` gives them.

    Raises:
        DataError: a line that can't be understood or that names no image, or an image without a line.
    """
    images = sorted(name for name in files if is_image(name))
    if not images:
        raise no_images(path, list(files))
    labels = _lines(f"{path}: {LABELS_CSV}", files[LABELS_CSV].read(), set(images))
    if missing := [name for name in images if name not in labels]:
        raise DataError(
            f"{path}: {LABELS_CSV} has no line for {missing[0]} ({len(missing)} images in all); an image without labels "
            f"has the line '{missing[0]},'"
        )
    classes = tuple(sorted({label for of_image in labels.values() for label in of_image}))
    return Index(
        images, [files[name] for name in images], multi_hot([labels[name] for name in images], classes), classes
    )


def _lines(title: str, data: bytes, images: set[str]) -> dict[str, list[str]]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{title}: expected UTF-8 text ({error})") from error
    lines: dict[str, int] = {}
    labels: dict[str, list[str]] = {}
    reader = csv.reader(text.splitlines(), strict=True)
    try:
        for row in reader:
            where = f"{title}, line {reader.line_num}"
            if not row or (row == _HEADER and reader.line_num == 1):
                continue
            if len(row) != 2:
                raise DataError(f"{where}: expected 'file,label;label;...', found {len(row)} columns")
            name = str(PurePosixPath(row[0].strip()))
            if name in lines:
                raise DataError(f"{where}: {name} is listed in line {lines[name]} already")
            if name not in images:
                raise DataError(f"{where}: there is no image {name}")
            lines[name], labels[name] = reader.line_num, _cell(where, row[1])
    except csv.Error as error:
        raise DataError(f"{title}, line {reader.line_num}: {error}") from error
    return labels


def _cell(where: str, cell: str) -> list[str]:
    if not cell.strip():
        return []
    labels = [label.strip() for label in cell.split(";")]
    for i, label in enumerate(labels):
        if not label:
            raise DataError(f"{where}: a label of {cell!r} is empty; expected label;label;...")
        if label in labels[:i]:
            raise DataError(f"{where}: label {label!r} is given twice")
    return labels


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
