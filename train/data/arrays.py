"""Arrays as images: what is one, and what to do with what is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from train.data.files import Pixels
from train.exceptions import DataError


def check_images(title: str, images: npt.NDArray[Any]) -> None:
    """Make sure that an array is uint8 [N, H, W, 3] of one image or more.

    Raises:
        DataError: saying what to do.
    """
    wanted = f"{title}: images must be uint8 [N, H, W, 3], found {images.dtype} {list(images.shape)}"
    if remedy := _remedy(images):
        raise DataError(f"{wanted}; {remedy}")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape:
        raise DataError(wanted)


def as_files(images: npt.NDArray[np.uint8]) -> list[Pixels]:
    """The images of an array [N, H, W, 3], without a copy."""
    return [Pixels(image) for image in np.asarray(images)]  # a view, also of what is mapped


def _remedy(images: npt.NDArray[Any]) -> str:
    """What makes images of an array of another kind."""
    steps = []
    shape = images.shape
    if images.ndim == 3 and shape[2] == 3:
        steps.append("x[None] is a set of one image")
    elif images.ndim == 3:
        steps.append("of grey images, np.repeat(x[..., None], 3, axis=3)")
    elif images.ndim == 4 and shape[3] == 1:
        steps.append("of grey images, np.repeat(x, 3, axis=3)")
    elif images.ndim == 4 and shape[3] == 4:
        steps.append("x[..., :3] drops transparency")
    elif images.ndim == 4 and shape[3] != 3 and shape[1] in (1, 3):
        steps.append("x.transpose(0, 2, 3, 1) puts the channels last")
    elif images.ndim == 2:
        steps.append("x.reshape(N, H, W, 3) where each row is an image")
    if images.dtype.kind == "f":
        steps.append(
            "(255 * x).round().astype(np.uint8) where x is in [0, 1]; undo a normalisation first: x * std + mean"
        )
    elif images.dtype.kind in "iu" and images.dtype != np.uint8:
        steps.append("x.astype(np.uint8) where x is in [0, 255]")
    return "; ".join(steps)
