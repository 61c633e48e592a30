"""An image file's type by its first bytes, for names and headers that no client has a say in."""

from __future__ import annotations

from runtime.preprocess.formats import kind

_TYPES = {
    "JPEG": (".jpg", "image/jpeg"),
    "PNG": (".png", "image/png"),
    "WEBP": (".webp", "image/webp"),
    "GIF": (".gif", "image/gif"),
    "BMP": (".bmp", "image/bmp"),
    "TIFF": (".tif", "image/tiff"),
    "HEIF": (".heic", "image/heif"),
    "AVIF": (".avif", "image/avif"),
}
_UNKNOWN = (".bin", "application/octet-stream")


def suffix_of(data: bytes) -> str:
    """Such as ``.jpg``; ``.bin`` for anything that the runtime does not take."""
    return _type_of(data)[0]


def media_type_of(data: bytes) -> str:
    """Such as ``image/jpeg``; ``application/octet-stream`` for anything that the runtime does not take."""
    return _type_of(data)[1]


def _type_of(data: bytes) -> tuple[str, str]:
    return _TYPES.get(kind(data) or "", _UNKNOWN)
