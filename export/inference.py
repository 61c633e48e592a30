"""Running an engine over a whole set of images."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from runtime.engines.interface import Engine, Outputs

BATCH = 64


class Images(Protocol):
    """N images uint8 [N, H, W, 3], in memory or read when a slice is asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> npt.NDArray[np.uint8]: ...


def collect(engine: Engine, images: Images, *, penultimate: bool = False, title: str = "") -> Outputs:
    """Every image's outputs, in order, with a progress bar on a terminal.

    Args:
        engine: a loaded graph.
        images: N >= 1.
        penultimate: whether to keep the activations too.
        title: of the progress bar.
    """
    starts = tqdm(range(0, len(images), BATCH), desc=title, unit="batch", disable=None, leave=False)
    parts = [engine.run(images[start : start + BATCH], penultimate=penultimate) for start in starts]
    return Outputs(
        logits=np.concatenate([part.logits for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        accept=np.concatenate([part.accept for part in parts]),
        penultimate=np.concatenate([part.penultimate for part in parts if part.penultimate is not None])
        if penultimate
        else None,
    )
