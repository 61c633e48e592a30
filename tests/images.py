"""Image files, good and bad, as bytes."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

from tests.small import calibration_images, encode


def photo() -> bytes:
    """A JPEG photograph of 640 x 480 smooth colour patches."""
    patches = calibration_images(1, seed=3)[0]
    return encode(np.asarray(Image.fromarray(patches).resize((640, 480), Image.Resampling.BICUBIC)), "JPEG")


def huge_png(width: int = 15_000, height: int = 10_000) -> bytes:
    """A valid white PNG of that many pixels in a few hundred kilobytes, made without its pixels in memory."""
    compressor = zlib.compressobj(9)
    row = b"\0" + b"\xff" * (3 * width)
    data = b"".join([*(compressor.compress(row) for _ in range(height)), compressor.flush()])
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def animated_gif() -> bytes:
    """Three frames of different colours."""
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "green", "blue")]
    return _save(frames[0], "GIF", save_all=True, append_images=frames[1:])


def cmyk_jpeg() -> bytes:
    return _save(Image.new("CMYK", (24, 24), (0, 255, 255, 0)), "JPEG")


def sixteen_bit_png() -> bytes:
    return _save(Image.fromarray(np.linspace(0, 65535, 400).reshape(20, 20).astype(np.uint16)), "PNG")


def transparent_palette_png() -> bytes:
    image = Image.new("P", (20, 20), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    return _save(image, "PNG", transparency=1)


def _save(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()
