"""Auxiliary outliers that are nothing at all: noise of every grain, fine to coarse, of which photographs have none.

    python -m benchmarks.noise OUT.npz [--count 3000] [--side 32] [--seed 0]

A network that saw photographs as outliers alone may be sure of noise. Each image is a grid of random values, uniform, normal
or of two levels, in colour or grey, of a random contrast around a random colour, enlarged to the image's size by a random
filter. The same seed makes the same images.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from runtime.command import run

_FILTERS = (Image.Resampling.NEAREST, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)
_FINE = 0.5  # the share of images whose grid is as fine as the image


def noise(count: int, side: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """uint8 (count, side, side, 3)."""
    rng = np.random.default_rng(seed)
    return np.stack([_one(side, rng) for _ in range(count)])


def _one(side: int, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    grain = side if rng.random() < _FINE else int(rng.integers(1, side))
    channels = 1 if rng.random() < 0.25 else 3
    shape = (grain, grain, channels)
    values = (rng.uniform(-1, 1, shape), rng.normal(0, 0.5, shape), rng.choice([-1.0, 1.0], shape))[rng.integers(3)]
    contrast = rng.uniform(0.2, 1.0)
    centre = rng.uniform(contrast * 127.5, 255 - contrast * 127.5, channels)
    pixels = np.clip(centre + contrast * 127.5 * values, 0, 255).round().astype(np.uint8)
    image = Image.fromarray(np.broadcast_to(pixels, (grain, grain, 3)).copy())
    return np.asarray(image.resize((side, side), _FILTERS[rng.integers(len(_FILTERS))]))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.noise", description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, metavar="OUT.npz")
    parser.add_argument("--count", type=int, default=3000, help="default: %(default)s")
    parser.add_argument("--side", type=int, default=32, help="pixels (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    images = noise(args.count, args.side, args.seed)
    np.savez_compressed(args.out, images=images, labels=np.zeros(len(images), np.int64))
    return 0


if __name__ == "__main__":
    run(main)
