"""Images and labels in the arrays of an .npz file."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from train.data.image_set import ImageSet
from train.data.index import Labels
from train.exceptions import DataError


def load(path: Path) -> ImageSet:
    """Read the arrays ``images`` and ``labels``, and ``classes`` where the labels are multi-hot.

    Raises:
        DataError: no readable .npz, or arrays of other kinds.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            images, labels = (_read(archive, name) for name in ("images", "labels"))
            classes = _read(archive, "classes") if "classes.npy" in archive.namelist() else None
    except Exception as error:  # zipfile and numpy raise many kinds of errors on damaged bytes
        raise DataError(f"{path}: expected an .npz with arrays 'images' and 'labels' ({error})") from error
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape[1:]:
        raise DataError(f"{path}: images must be uint8 [N, H, W, 3], found {images.dtype} {list(images.shape)}")
    names = tuple(map(str, range(len(images))))
    return ImageSet(images, *_labels(path, labels, classes, len(images)), names)


def _labels(
    path: Path, labels: npt.NDArray[Any], classes: npt.NDArray[Any] | None, count: int
) -> tuple[Labels, tuple[str, ...]]:
    if classes is not None and count and labels.shape == (count, *classes.shape) and classes.ndim == 1:
        if not np.isin(labels, (0, 1)).all():
            raise DataError(f"{path}: labels [N, K] must be zeros and ones, found {labels.min()} to {labels.max()}")
        names = list(map(str, classes))
        if len(set(names)) != len(names):
            raise DataError(f"{path}: classes must be distinct, found {names}")
        order = sorted(range(len(names)), key=names.__getitem__)
        return labels[:, order].astype(np.bool_), tuple(sorted(names))
    if labels.shape != (count,) or not count:
        raise DataError(
            f"{path}: expected one label an image, found {list(labels.shape)} for {count} images; multi-hot labels "
            f"[N, K] need an array 'classes' of K names, found {None if classes is None else list(classes.shape)}"
        )
    distinct, indices = np.unique(labels, return_inverse=True)
    return indices.astype(np.int64), tuple(map(str, distinct))


def _read(archive: zipfile.ZipFile, name: str) -> npt.NDArray[Any]:
    with archive.open(f"{name}.npy") as file:
        return np.lib.format.read_array(file, allow_pickle=False)
