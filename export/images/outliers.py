"""Outliers to choose by: auxiliary ones, or ones that are made from in-distribution images."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
from PIL import Image

from export.exceptions import ExportError
from runtime.manifest import InputSpec
from train.data import Reading, read, short_name

Images = npt.NDArray[np.uint8]  # [N, H, W, 3]

_PIECES = 4  # a side
_TURN = 6.0  # radians, at the centre


def auxiliary(sources: Iterable[str], spec: InputSpec, limit: int, reading: Reading) -> dict[str, Images]:
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
        images = read(source, spec, reading=reading.unlabelled).images
        sets[name] = images[np.sort(np.random.default_rng(0).permutation(len(images))[:limit])]
    return sets


def blended(images: Images, rng: np.random.Generator) -> Images:
    """Each image averaged with two others, (a + b + c) / 3, drawn at random; needs at least two images."""
    total = images.astype(np.uint16) + images[_partners(len(images), rng)] + images[_partners(len(images), rng)]
    return (total // 3).astype(np.uint8)


def jigsaw(images: Images, rng: np.random.Generator) -> Images:
    """Each image with its 4 x 4 pieces in a random order of its own: parts stay, the whole is gone."""
    count, height, width, channels = images.shape
    h, w = max(1, height // _PIECES), max(1, width // _PIECES)
    rows, columns = height // h, width // w
    cut = images[:, : rows * h, : columns * w].reshape(count, rows, h, columns, w, channels).swapaxes(2, 3)
    pieces = cut.reshape(count, rows * columns, h, w, channels)
    order = rng.permuted(np.tile(np.arange(rows * columns), (count, 1)), axis=1)
    shuffled = np.take_along_axis(pieces, order[:, :, None, None, None], axis=1).reshape(cut.shape)
    found = images.copy()
    found[:, : rows * h, : columns * w] = shuffled.swapaxes(2, 3).reshape(count, rows * h, columns * w, channels)
    return found


def swapped(images: Images, rng: np.random.Generator) -> Images:
    """The phases of one image's spectrum with the amplitudes of another: edges of this, contrast and texture of that."""
    found = np.empty_like(images)
    for index, partner in enumerate(_partners(len(images), rng)):
        spectrum, other = (np.fft.fft2(images[i].astype(np.float64), axes=(0, 1)) for i in (index, partner))
        mixed = np.fft.ifft2(np.abs(other) * np.exp(1j * np.angle(spectrum)), axes=(0, 1)).real
        found[index] = np.clip(mixed.round(), 0, 255)
    return found


def scrambled(images: Images, rng: np.random.Generator) -> Images:
    """Each image with random phases, the same in all channels: a texture of its colours and frequencies."""
    found = np.empty_like(images)
    for index, image in enumerate(images):
        phase = np.angle(np.fft.fft2(rng.normal(size=image.shape[:2])))
        phase[0, 0] = 0
        shifted = np.fft.fft2(image.astype(np.float64), axes=(0, 1)) * np.exp(1j * phase)[:, :, None]
        found[index] = np.clip(np.fft.ifft2(shifted, axes=(0, 1)).real.round(), 0, 255)
    return found


def swirled(images: Images, rng: np.random.Generator) -> Images:  # noqa: ARG001
    """Each image turned about its centre, most near it: shapes are gone, colours and edges stay."""
    height, width = images.shape[1:3]
    y, x = np.mgrid[:height, :width] - np.array([(height - 1) / 2, (width - 1) / 2])[:, None, None]
    angle = _TURN * np.exp(-4 * np.hypot(y / height, x / width))
    rows = (y * np.cos(angle) - x * np.sin(angle) + (height - 1) / 2).round().clip(0, height - 1).astype(np.int64)
    columns = (y * np.sin(angle) + x * np.cos(angle) + (width - 1) / 2).round().clip(0, width - 1).astype(np.int64)
    return np.asarray(images[:, rows, columns])


def zoomed(images: Images, rng: np.random.Generator) -> Images:
    """A random third of each image's height and width, enlarged: a part of something, without what it is a part of."""
    height, width = images.shape[1:3]
    h, w = max(1, height // 3), max(1, width // 3)
    found = np.empty_like(images)
    for index, image in enumerate(images):
        top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
        part = Image.fromarray(image[top : top + h, left : left + w])
        found[index] = np.asarray(part.resize((width, height), Image.Resampling.BICUBIC))
    return found


def permuted(images: Images, rng: np.random.Generator) -> Images:
    """Each image with its pixels in a random order of its own: the colours stay, what they show is gone."""
    count, height, width, channels = images.shape
    pixels = images.reshape(count, height * width, channels)
    order = rng.permuted(np.tile(np.arange(height * width), (count, 1)), axis=1)
    return np.take_along_axis(pixels, order[:, :, None], axis=1).reshape(images.shape)


# From near to far; those that mix need a partner.
KINDS: dict[str, Callable[[Images, np.random.Generator], Images]] = {
    "blended": blended,
    "jigsaw": jigsaw,
    "swapped": swapped,
    "scrambled": scrambled,
    "swirled": swirled,
    "zoomed": zoomed,
    "permuted": permuted,
}
MIXING = ("blended", "swapped")


def synthetic(images: Images, seed: int = 0) -> dict[str, Images]:
    """Outliers of :data:`KINDS` made from in-distribution images, by name; the same for the same images and seed.

    They differ in what they keep: of some a classifier is as sure as of unknown objects, of others hardly. One image alone
    has none to be mixed with.
    """
    rng = np.random.default_rng(seed)
    return {name: make(images, rng) for name, make in KINDS.items() if len(images) > 1 or name not in MIXING}


def _partners(count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Another one (count,) for each, every one once."""
    order = rng.permutation(count)
    partner = np.empty_like(order)
    partner[order] = np.roll(order, 1)
    return partner
