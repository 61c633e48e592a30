"""Which files are images, by their first bytes and by their names."""

from __future__ import annotations

import importlib

from PIL import (
    BmpImagePlugin,  # noqa: F401  importing a plugin registers its format
    GifImagePlugin,  # noqa: F401
    Image,
    JpegImagePlugin,  # noqa: F401
    MpoImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    WebPImagePlugin,  # noqa: F401
)

from runtime.preprocess import bmp

_ALWAYS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
_SUFFIXES = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".png", ".apng", ".webp", ".bmp", ".gif", ".tif", ".tiff",
}  # fmt: skip
HEIF_SUFFIXES = {".heic", ".heif", ".hif", ".avif"}
_AVIF = frozenset({b"avif", b"avis"})
_HEIF = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})


def _with_heif() -> bool:
    """Register HEIF and AVIF if the extra is installed, each decoded by one thread as all others are."""
    try:
        heif = importlib.import_module("pillow_heif")
        avif = importlib.import_module("PIL.AvifImagePlugin")
    except ImportError:
        return False
    heif.options.DECODE_THREADS = 1
    heif.options.THUMBNAILS = heif.options.DEPTH_IMAGES = heif.options.AUX_IMAGES = False
    heif.register_heif_opener()
    setattr(avif, "DEFAULT_MAX_THREADS", 1)  # noqa: B010  stubs do not know it
    return bool(avif.SUPPORTED)


HEIF = _with_heif()
FORMATS = (*_ALWAYS, *(("HEIF", "AVIF") if HEIF else ()))
SUFFIXES = _SUFFIXES | (HEIF_SUFFIXES if HEIF else set())  # which files of a folder are images


def kind(data: bytes) -> str | None:
    """The format that the first bytes are of, whether it is accepted or not; None for no image at all."""
    if data[4:8] == b"ftyp":
        return _kind_of_container(data[8 : min(256, int.from_bytes(data[:4], "big"))])
    if data[:2] == b"BM":
        return "BMP" if bmp.recognised(data) else None
    return next((name for name in _ALWAYS if (accept := Image.OPEN[name][1]) and accept(data[:16]) is True), None)


def _kind_of_container(brands: bytes) -> str | None:
    """By the brand of an ISO media file, and those that it says it is compatible with."""
    found = {brands[i : i + 4] for i in range(0, len(brands), 4)}
    return "AVIF" if found & _AVIF else "HEIF" if found & _HEIF else None
