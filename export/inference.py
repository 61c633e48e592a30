"""Running an engine over a whole set of images."""

from __future__ import annotations

import math

import numpy as np
from tqdm import tqdm

from runtime.engines.interface import Engine, Outputs
from train.data import Images, batches

BATCH = 64


def collect(engine: Engine, images: Images, *, penultimate: bool = False, title: str = "") -> Outputs:
    """Every image's outputs, in order, with a progress bar on a terminal.

    Args:
        engine: a loaded graph.
        images: uint8 [N, H, W, 3], N >= 1.
        penultimate: whether to keep the activations too.
        title: of the progress bar.
    """
    count = math.ceil(len(images) / BATCH)
    bar = tqdm(batches(images, BATCH), total=count, desc=title, unit="batch", disable=None, leave=False)
    parts = [engine.run(batch, penultimate=penultimate) for batch in bar]
    return Outputs(
        logits=np.concatenate([part.logits for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        accept=np.concatenate([part.accept for part in parts]),
        penultimate=np.concatenate([part.penultimate for part in parts if part.penultimate is not None])
        if penultimate
        else None,
    )
