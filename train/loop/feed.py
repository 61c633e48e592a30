"""The images of every step, decided by (seed, step) alone and fetched while the step before is computed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from train.augment import Crops
from train.config import Config
from train.data import ImageSet, prefetch
from train.exceptions import TrainingError
from train.methods import Method

# More than the passes over the outliers in an epoch can be.
_PASSES = 1 << 20
_FLIPS = 2  # a stream of random numbers, beside those of the known images and of the outliers


@dataclass(frozen=True)
class Part:
    """What one step takes of an image set: uint8 images (B, H, W, 3), their labels and their crops."""

    images: Tensor
    labels: Tensor
    crops: Crops


@dataclass(frozen=True)
class Fed:
    """What one step takes: in-distribution images and auxiliary outliers, none where the method needs none."""

    known: Part
    outliers: Part | None


class Feed:
    """Batches of an image set and of auxiliary outliers, pass after pass over each, every pass in an order of its own.

    Where an epoch's steps take at least as many outliers as there are, the epoch shows each of them. Of n processes
    with batches of B each, process r takes the r-th part of what one process with a batch of n B takes.

    Args:
        config: batch size, padding and seed.
        method: says how many outliers a step takes.
        data: in-distribution images; an epoch shows each at most once, whole batches only.
        outliers: auxiliary images, for methods that need them.
        rank, size: which of how many processes this is.

    Raises:
        TrainingError: fewer images than one step takes.
    """

    def __init__(
        self, config: Config, method: Method, data: ImageSet, outliers: ImageSet | None, rank: int = 0, size: int = 1
    ) -> None:
        self._config, self._data, self._outliers = config, data, outliers
        self._rank, self._size = rank, size
        if len(data) < (batch := config.batch_size * size):
            raise TrainingError(f"{len(data)} images are fewer than a batch of {batch}; lower --batch-size")
        self.steps_per_epoch = len(data) // (config.batch_size * size)
        self._outliers_per_step = 0
        if outliers is not None:
            share = -(-len(outliers) // (self.steps_per_epoch * size))
            self._outliers_per_step = method.outliers(config.batch_size, share)
            if len(outliers) < (least := min(self._outliers_per_step, config.batch_size) * size):
                raise TrainingError(
                    f"{len(outliers)} auxiliary images are fewer than the {least} of a step; give more by --aux, or lower "
                    "--batch-size"
                )
            drawn = self._outliers_per_step * size * self.steps_per_epoch
            self._passes = _PASSES if drawn >= len(outliers) else 0  # an epoch begins a new pass, or goes on with one

    def steps(self, start: int, end: int) -> Iterator[Fed]:
        """The batches of the steps from `start` up to `end`, one after the other."""
        return prefetch(self._fetch(step) for step in range(start, end))

    def _fetch(self, step: int) -> Fed:
        generator = torch.Generator().manual_seed(seed_of(self._config.seed, step))
        epoch, position = divmod(step, self.steps_per_epoch)
        known = self._part(self._data, self._config.batch_size, epoch, position, 0, generator)
        if not (self._outliers and self._outliers_per_step):
            return Fed(known, None)
        if self._passes:
            epoch, step = epoch * self._passes, position
        else:
            epoch = 0
        return Fed(known, self._part(self._outliers, self._outliers_per_step, epoch, step, 1, generator))

    def _part(
        self, data: ImageSet, count: int, number: int, position: int, stream: int, generator: torch.Generator
    ) -> Part:
        """The `position`-th batch from the beginning of pass `number`, of which every process takes `count` images."""
        total = count * self._size
        crops = Crops.draw(total, self._config.padding, generator)
        mine = slice(self._rank * count, (self._rank + 1) * count)
        chosen = _take(len(data), self._config.seed, number, position * total, total, stream)[mine]
        crops = crops.part(mine)
        if self._config.flip == "alternating" and stream == 0:
            crops = replace(
                crops, mirrored=torch.from_numpy(_sides(len(data), self._config.seed)[chosen] ^ bool(number % 2))
            )
        return Part(torch.from_numpy(data.images[chosen]), torch.from_numpy(data.labels[chosen]), crops)


def seed_of(*numbers: int) -> int:
    """32 bits that depend on every one of the numbers; torch's generator on a CPU looks at no more bits of a seed."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def _take(length: int, seed: int, number: int, start: int, count: int, stream: int) -> npt.NDArray[np.int64]:
    """`count` indices from place `start` on, of the passes number, number + 1, ... laid end to end."""
    parts = []
    while count:
        skipped, place = divmod(start, length)
        part = _order(length, seed, number + skipped, stream)[place : place + count]
        parts.append(part)
        start, count = start + len(part), count - len(part)
    return np.concatenate(parts)


@lru_cache(maxsize=4)
def _order(length: int, seed: int, number: int, stream: int) -> npt.NDArray[np.int64]:
    """A permutation of range(length), another one for each pass and stream."""
    return np.random.default_rng([seed, number, stream]).permutation(length)


@lru_cache(maxsize=1)
def _sides(length: int, seed: int) -> npt.NDArray[np.bool_]:
    """Which images are mirrored in even epochs; the others are in odd ones."""
    return np.random.default_rng([seed, _FLIPS]).random(length) < 0.5
