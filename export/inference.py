"""Running an engine over a whole set of images."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from runtime.engines.interface import Engine, Outputs, joined
from train.data import Images, batches

BATCH = 64


def stream(
    engine: Engine, images: Images, *, penultimate: bool = False, title: str = ""
) -> Iterator[tuple[npt.NDArray[np.uint8], Outputs]]:
    """Each batch and its outputs, in order, with a progress bar on a terminal; no more than three batches are held.

    Args:
        engine: a loaded graph.
        images: N >= 1.
        penultimate: whether to fetch the activations too.
        title: of the progress bar.
    """
    count = math.ceil(len(images) / BATCH)
    for batch in tqdm(batches(images, BATCH), total=count, desc=title, unit="batch", disable=None, leave=False):
        yield batch, engine.run(batch, penultimate=penultimate)


def collect(engine: Engine, images: Images, *, penultimate: bool = False, title: str = "") -> Outputs:
    """Every image's outputs, in order; arguments as of :func:`stream`."""
    parts = [outputs for _, outputs in stream(engine, images, penultimate=penultimate, title=title)]
    return joined(parts)
