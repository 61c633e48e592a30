"""Outliers to choose by: auxiliary ones, or ones that are made from in-distribution images."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from export.exceptions import ExportError
from runtime.manifest import InputSpec
from train.data import read, short_name

Images = npt.NDArray[np.uint8]  # [N, H, W, 3]


def auxiliary(sources: Iterable[str], spec: InputSpec, limit: int, *, strict: bool = False) -> dict[str, Images]:
    """At most `limit` random images of each source, by its short name.

    Raises:
        ExportError: two sources of the same name.
        DataError: a source that can't be read.
    """
    sets: dict[str, Images] = {}
    for source in sources:
        name = short_name(source)
        if name in sets:
            raise ExportError(f"--aux {source}: a set of the name {name} is given twice")
        images = read(source, spec, strict=strict).images
        sets[name] = images[np.sort(np.random.default_rng(0).permutation(len(images))[:limit])]
    return sets


def permuted(images: Images, rng: np.random.Generator) -> Images:
    """Each image with its pixels in a random order of its own: the colours stay, what they show is gone."""
    count, height, width, channels = images.shape
    pixels = images.reshape(count, height * width, channels)
    order = rng.permuted(np.tile(np.arange(height * width), (count, 1)), axis=1)
    return np.take_along_axis(pixels, order[:, :, None], axis=1).reshape(images.shape)


def noise(images: Images, rng: np.random.Generator) -> Images:
    """As many images of independent uniform noise."""
    return rng.integers(0, 256, images.shape, dtype=np.uint8)


def blended(images: Images, rng: np.random.Generator) -> Images:
    """Each image averaged with another one, (a + b) / 2, pairs drawn at random; needs at least two images."""
    order = rng.permutation(len(images))
    partner = np.empty_like(order)
    partner[order] = np.roll(order, 1)
    return ((images.astype(np.uint16) + images[partner]) // 2).astype(np.uint8)


def synthetic(images: Images, seed: int = 0) -> dict[str, Images]:
    """Outliers of three kinds made from in-distribution images, by name; the same for the same images and seed."""
    rng = np.random.default_rng(seed)
    kinds = {"permuted": permuted, "noise": noise} | ({"blended": blended} if len(images) > 1 else {})
    return {name: make(images, rng) for name, make in kinds.items()}
