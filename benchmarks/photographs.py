"""Photographs of the sizes that users send, made of smaller ones.

    python -m benchmarks.photographs DATA/photos.tar OUT

Writes OUT/640x480.jpg and OUT/4000x3000.jpg (12 megapixels): a mosaic of the tar's photographs, each whole and at its own
size, so that the decoder has the detail of photographs to do, of quality 90.
"""

from __future__ import annotations

import argparse
import io
import itertools
import tarfile
from pathlib import Path

from PIL import Image

SIZES = ((640, 480), (4000, 3000))
_QUALITY = 90


def photographs(tar: Path) -> list[Image.Image]:
    """Those of a tar, by name."""
    with tarfile.open(tar) as archive:
        members = sorted((member for member in archive if member.isfile()), key=lambda member: member.name)
        contents = [file.read() for member in members if (file := archive.extractfile(member))]
    return [Image.open(io.BytesIO(data)).convert("RGB") for data in contents]


def mosaic(images: list[Image.Image], size: tuple[int, int]) -> Image.Image:
    """Rows of the images, again and again; the largest comes first, so that a small mosaic is a part of it."""
    each = itertools.cycle(sorted(images, key=lambda image: -image.width * image.height))
    canvas = Image.new("RGB", size)
    top = 0
    while top < size[1]:
        left, height = 0, size[1]
        while left < size[0]:
            image = next(each)
            canvas.paste(image, (left, top))
            left, height = left + image.width, min(height, image.height)
        top += height
    return canvas


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.photographs", description=__doc__.partition("\n")[0])
    parser.add_argument("tar", type=Path, metavar="TAR", help="photographs")
    parser.add_argument("out", type=Path, metavar="OUT", help="directory to write to")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    images = photographs(args.tar)
    for width, height in SIZES:
        file = args.out / f"{width}x{height}.jpg"
        mosaic(images, (width, height)).save(file, quality=_QUALITY)
        print(f"{file}: {file.stat().st_size / 1024:.0f} kB")


if __name__ == "__main__":
    main()
