"""Photographs of eight aspect ratios, as JPEG files."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

_RATIOS = ((1, 1), (4, 3), (3, 4), (3, 2), (2, 3), (16, 9), (9, 16), (21, 9))
_PHOTOGRAPHS, _DRAWN = 16, 8


def write(tar: Path, folder: Path) -> list[Path]:
    """Sixteen crops of the photographs in a tar, and eight drawn ones, of odd sizes; their files."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(tar) as archive:
        members = sorted((item for item in archive if item.isfile()), key=lambda item: item.name)
        contents = [reader.read() for item in members if (reader := archive.extractfile(item))]
    images = [_cropped(contents[i % len(contents)], i) for i in range(_PHOTOGRAPHS)] + [
        _drawn(i) for i in range(_DRAWN)
    ]
    files = []
    for i, image in enumerate(images):
        files.append(folder / f"{i:02d}.jpg")
        image.save(files[-1], quality=92)
    return files


def _size(i: int) -> tuple[int, int]:
    width, height = _RATIOS[i % len(_RATIOS)]
    side = 331 + 29 * i
    return round(side * (width / height) ** 0.5), round(side * (height / width) ** 0.5)


def _cropped(data: bytes, i: int) -> Image.Image:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    width, height = (min(wanted, whole) for wanted, whole in zip(_size(i), image.size, strict=True))
    left, top = (image.width - width) // 3, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _drawn(i: int) -> Image.Image:
    """Coloured shapes on a gradient with noise."""
    width, height = _size(i)
    rng = np.random.default_rng(i)
    y, x = np.mgrid[:height, :width]
    gradient = np.stack((255 * x / width, 255 * y / height, 255 * (x + y) / (width + height)), axis=2)
    image = Image.fromarray(np.clip(gradient + rng.normal(0, 12, gradient.shape), 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        x0, y0 = rng.integers(0, width), rng.integers(0, height)
        box = (x0, y0, x0 + rng.integers(8, width // 2), y0 + rng.integers(8, height // 2))
        (draw.ellipse if rng.random() < 0.5 else draw.rectangle)(
            list(map(int, box)), tuple(map(int, rng.integers(0, 256, 3)))
        )
    return image
