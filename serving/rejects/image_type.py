"""An image file's type by its first bytes, for names and headers that no client has a say in."""

from __future__ import annotations

_SIGNATURES = (
    (b"\xff\xd8\xff", ".jpg", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", ".png", "image/png"),
    (b"GIF8", ".gif", "image/gif"),
    (b"BM", ".bmp", "image/bmp"),
    (b"II*\0", ".tif", "image/tiff"),
    (b"MM\0*", ".tif", "image/tiff"),
)
_UNKNOWN = (".bin", "application/octet-stream")


def suffix_of(data: bytes) -> str:
    """Such as ``.jpg``; ``.bin`` for anything that the runtime does not take."""
    return _type_of(data)[0]


def media_type_of(data: bytes) -> str:
    """Such as ``image/jpeg``; ``application/octet-stream`` for anything that the runtime does not take."""
    return _type_of(data)[1]


def _type_of(data: bytes) -> tuple[str, str]:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ".webp", "image/webp"
    return next(((suffix, media) for magic, suffix, media in _SIGNATURES if data.startswith(magic)), _UNKNOWN)
