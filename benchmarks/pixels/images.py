"""Photographs, and images drawn with every aspect ratio and orientation."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

# width, height: 8 aspect ratios, each larger than the inputs, near them and smaller, odd ones among them
DRAWN = [
    *[(640, 640), (257, 257), (97, 97)],
    *[(640, 480), (333, 250), (120, 90)],
    *[(480, 640), (251, 335), (75, 101)],
    *[(1200, 800), (375, 251), (61, 41)],
    *[(1279, 719), (455, 256), (199, 113)],
    *[(450, 900), (113, 227), (31, 64)],
    *[(1501, 301), (300, 61), (41, 8)],
    *[(50, 1000), (13, 259), (3, 60)],
]
SUFFIXES = (".jpg", ".jpeg")


def drawn(width: int, height: int) -> Image.Image:
    """Waves, edges and noise, in whole numbers, so that every machine draws the same."""
    y, x = np.mgrid[:height, :width]
    waves = np.stack([x * x // 16 + 3 * y, x * y // 8, 11 * (x - y)], axis=-1)
    noise = (x * 73_856_093 ^ y * 19_349_663) >> 7 & 31
    edges = 48 * ((x // 13 + y // 9) % 3 == 0)
    return Image.fromarray((abs(waves % 448 - 224) + (edges - noise)[..., None]).clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, orientation: int) -> bytes:
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    image.save(buffer, "JPEG", quality=92, exif=exif)
    return buffer.getvalue()


def photographs(source: Path, count: int) -> list[bytes]:
    """`count` JPEGs of a tar, spread over it."""
    with tarfile.open(source) as tar:
        names = sorted(name for name in tar.getnames() if name.lower().endswith(SUFFIXES))
        chosen = names[:: max(1, len(names) // count)][:count]
        return [tar.extractfile(name).read() for name in chosen]  # type: ignore[union-attr]  # regular files


def upright(data: bytes) -> Image.Image:
    """As the libraries' users open a file."""
    return ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
