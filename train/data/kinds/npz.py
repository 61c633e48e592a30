"""Images, and labels if there are any, in the arrays of an .npz file."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from train.data.arrays import as_files, check_images
from train.data.index import Index, Labels, unlabelled
from train.data.options import Reading
from train.data.report import Report
from train.exceptions import DataError

IMAGES, LABELS, CLASSES = "images", "labels", "classes"
_OTHER_LABELS = ("label", "y", "targets", "target")


def takes(path: Path) -> bool:
    """By its name."""
    return path.is_file() and path.suffix.lower() == ".npz"


def index(path: Path, reading: Reading, memory: int) -> Index:  # noqa: ARG001  arrays of an .npz are unpacked whole
    """Read the arrays ``images``, ``labels`` if it is there, and ``classes``, of which the labels are numbers, or multi-hot.

    Raises:
        DataError: no readable .npz, or arrays of other kinds.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            there = [name.removesuffix(".npy") for name in archive.namelist()]
            named = _images_of(there)
            labelling = next((name for name in (LABELS, *_OTHER_LABELS) if name in there), None)
            images = _read(archive, named)
            labels = None if labelling is None else _read(archive, labelling)
            classes = _read(archive, CLASSES) if CLASSES in there else None
    except Exception as error:  # zipfile and numpy raise many kinds of errors on damaged bytes
        raise DataError(f"{path}: expected an .npz with an array 'images', perhaps 'labels' ({error})") from error
    check_images(str(path), images)
    names, files = list(map(str, range(len(images)))), as_files(images)
    taken = () if named == IMAGES else (f"images are the array {named!r}, the only one that may be",)
    if labels is None:
        return unlabelled(names, files, Report(remarks=taken))
    report = Report(f"labels = array {labelling!r}", remarks=taken)
    return Index(names, files, *_labels(path, labels, classes, len(images)), report)


def _images_of(there: list[str]) -> str:
    others = [name for name in there if name not in (LABELS, CLASSES, *_OTHER_LABELS)]
    if IMAGES in there:
        return IMAGES
    if len(others) != 1:
        raise ValueError(f"found {', '.join(map(repr, there)) or 'no arrays'}")
    return others[0]


def _labels(
    path: Path, labels: npt.NDArray[Any], classes: npt.NDArray[Any] | None, count: int
) -> tuple[Labels, tuple[str, ...]]:
    if classes is not None and classes.ndim != 1:
        raise DataError(f"{path}: expected 'classes' [K], found {list(classes.shape)}")
    names = [] if classes is None else list(map(str, classes))
    if len(set(names)) != len(names):
        raise DataError(f"{path}: classes must be distinct, found {names}")
    order = np.array(sorted(range(len(names)), key=names.__getitem__), dtype=np.intp)
    if names and count and labels.shape == (count, len(names)):
        if not np.isin(labels, (0, 1)).all():
            raise DataError(f"{path}: labels [N, K] must be zeros and ones, found {labels.min()} to {labels.max()}")
        return labels[:, order].astype(np.bool_), tuple(sorted(names))
    if labels.shape != (count,) or not count:
        raise DataError(
            f"{path}: expected one label an image, found {list(labels.shape)} for {count} images; multi-hot labels "
            f"[N, K] need an array 'classes' of K names, found {None if classes is None else list(classes.shape)}"
        )
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8", "replace")
    elif (labels.dtype.kind == "f" and (labels == labels.round()).all()) or (names and labels.dtype.kind == "b"):
        labels = labels.astype(np.int64)
    if names and labels.dtype.kind in "iu":
        if labels.min() < 0 or labels.max() >= len(names):
            raise DataError(
                f"{path}: labels must be from 0 to {len(names) - 1}, as there are {len(names)} classes; found {labels.min()} "
                f"to {labels.max()}"
            )
        return np.argsort(order)[labels].astype(np.int64), tuple(sorted(names))
    distinct, indices = np.unique(labels, return_inverse=True)
    if names and (strange := sorted({*map(str, distinct)} - {*names})):
        raise DataError(f"{path}: the label {strange[0]!r} is none of its {len(names)} classes")
    return indices.astype(np.int64), tuple(map(str, distinct))


def _read(archive: zipfile.ZipFile, name: str) -> npt.NDArray[Any]:
    with archive.open(f"{name}.npy") as file:
        return np.lib.format.read_array(file, allow_pickle=False)
