"""A .npy file of images: mapped, so that it need not fit into memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from train.data.arrays import as_files, check_images
from train.data.index import Index, unlabelled
from train.data.options import Reading
from train.data.report import Report
from train.exceptions import DataError


def takes(path: Path) -> bool:
    """By its name."""
    return path.is_file() and path.suffix.lower() == ".npy"


def index(path: Path, reading: Reading, memory: int) -> Index:  # noqa: ARG001  mapped, whatever its size
    """The images, without labels.

    Raises:
        DataError: no readable .npy, or no images uint8 [N, H, W, 3].
    """
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy raises many kinds of errors on damaged bytes
        raise DataError(f"{path}: expected a .npy of images uint8 [N, H, W, 3] ({error})") from error
    check_images(str(path), images)
    return unlabelled(list(map(str, range(len(images)))), as_files(images), Report())
