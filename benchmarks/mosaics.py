"""Multi-label sets out of single-label ones: canvases on which one to three images stand.

    python -m benchmarks.mosaics DATA OUT

DATA holds cifar10-train.tar, cifar10-val.tar and any number of ood-*.tar; OUT gets uncompressed tars of lossless images
with a labels.csv each:

    train.tar                                  from cifar10-train
    calibration.tar, evaluation.tar            from the two halves of cifar10-val, which share no image
    ood-NAME.tar                               from ood-NAME, without labels

A canvas is a grid of 2 x 2 cells of 32 x 32 pixels. How many cells are taken, which, and the grey of the others is the
same for known and unknown images, so that only what the images show tells them apart. The same seed makes the same files.
"""

from __future__ import annotations

import argparse
import csv
import io
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from runtime.command import run
from runtime.manifest import InputSpec
from train.data import ImageSet, Reading, load

CELL = 32
MOST = 3  # images on a canvas of four cells
GREY = 128
SPEC = InputSpec(CELL, CELL, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))

Pixels = npt.NDArray[np.uint8]


def mosaics(data: ImageSet, count: int, rng: np.random.Generator) -> Iterator[tuple[Pixels, list[str]]]:
    """`count` canvases uint8 [64, 64, 3], each with the sorted classes of the images on it."""
    for _ in range(count):
        images = rng.choice(len(data), size=rng.integers(1, MOST + 1), replace=False)
        cells = rng.choice(4, size=len(images), replace=False)
        canvas = np.full((2, CELL, 2, CELL, 3), GREY, dtype=np.uint8)
        canvas[cells // 2, :, cells % 2] = data.images[images]
        classes = sorted({data.classes[label] for label in data.labels[images]})
        yield canvas.reshape(2 * CELL, 2 * CELL, 3), classes


def write(path: Path, canvases: Iterator[tuple[Pixels, list[str]]], total: int) -> None:
    """A tar of PNG images, and last in it what is on them."""
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(("file", "labels"))
    with tarfile.open(path, "w") as tar:
        for i, (canvas, classes) in enumerate(tqdm(canvases, path.name, total, disable=None, leave=False)):
            name = f"images/{i:05}.png"
            _add(tar, name, _png(canvas))
            rows.writerow((name, ";".join(classes)))
        _add(tar, "labels.csv", table.getvalue().encode())


def _png(image: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.mosaics", description="Make multi-label sets of mosaics."
    )
    parser.add_argument(
        "data", type=Path, metavar="DATA", help="directory of cifar10-train.tar, cifar10-val.tar, ood-*.tar"
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="directory for the tars")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--train", type=int, default=20_000, help="canvases to train on (default: %(default)s)")
    parser.add_argument("--val", type=int, default=2_000, help="canvases of each half (default: %(default)s)")
    parser.add_argument("--ood", type=int, default=1_000, help="canvases of each unknown set (default: %(default)s)")
    args = parser.parse_args(argv)
    known = {
        "train": ("cifar10-train.tar", args.train),
        "calibration": ("cifar10-val.tar@1/2", args.val),
        "evaluation": ("cifar10-val.tar@2/2", args.val),
    }
    unknown = {path.stem: (path.name, args.ood) for path in sorted(args.data.glob("ood-*.tar"))}
    args.out.mkdir(parents=True, exist_ok=True)
    for name, (source, count) in {**known, **unknown}.items():
        rng = np.random.default_rng([args.seed, zlib.crc32(name.encode())])
        canvases = mosaics(load(str(args.data / source), SPEC, reading=Reading(strict=True)), count, rng)
        if name in unknown:
            canvases = ((canvas, []) for canvas, _ in canvases)
        write(args.out / f"{name}.tar", canvases, count)
        print(f"{args.out / name}.tar: {count} canvases")
    return 0


if __name__ == "__main__":
    run(main)
