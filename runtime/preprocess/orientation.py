"""Which side of an image is up: what its EXIF data say, and not, as Pillow has it, texts of editors beside them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from PIL import Image, ImageOps

_ORIENTATION = 0x0112
_TEXTS = ("xmp", "XML:com.adobe.xmp", "Raw profile type exif")


@contextmanager
def without_texts(image: Image.Image) -> Iterator[None]:
    """Keep from Pillow what else it takes an orientation from."""
    aside: dict[str | tuple[int, int], Any] = {name: image.info.pop(name) for name in _TEXTS if name in image.info}
    try:
        yield
    finally:
        image.info |= aside


def upright(image: Image.Image) -> Image.Image:
    """A copy of an image, turned as its file would be, but for one whose orientation was taken off in memory."""
    with without_texts(image):
        image.load()  # which turns a TIFF, and reads the texts at the end of a PNG
    has_texts = any(name in image.info for name in _TEXTS)
    if not has_texts:
        with suppress(Exception):  # damaged data, by which it may be turned all the same
            return ImageOps.exif_transpose(image)
    with without_texts(image):
        plain = image.copy()  # without what Pillow keeps of an earlier getexif(), which may be of the texts
    if not has_texts or _has_orientation(image):
        turn(plain)
    return plain


def turn(image: Image.Image) -> None:
    """Turn an image by its EXIF data, in place; damaged data leave it as it is."""
    with suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)


def _has_orientation(image: Image.Image) -> bool:
    try:
        return _ORIENTATION in image.getexif()
    except Exception:
        return False
