"""What the gate asks of an engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Tensor:
    """Element type in numpy's words, and shape; a dynamic dimension is None."""

    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        return f"{self.dtype} [{', '.join('N' if size is None else str(size) for size in self.shape)}]"


@dataclass(frozen=True)
class Signature:
    """A graph's face.

    Attributes:
        inputs, outputs: by name.
        manifest: what it carries; None if it carries none.
        built: whether this is an engine built from the graph, in which thresholds are constants and no inputs.
    """

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    manifest: str | None
    built: bool = False


@dataclass(frozen=True)
class Outputs:
    """One batch's results.

    Attributes:
        logits: float32 [N, K].
        scores: float32 [N, S].
        accept: bool [N], gate score >= threshold (of the predicted class if it has its own) and every score finite.
        penultimate: float32 [N, D], or None when it was not asked for.
    """

    logits: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    accept: npt.NDArray[np.bool_]
    penultimate: npt.NDArray[np.float32] | None = None


Threshold = float | npt.NDArray[np.float32]


class Engine(Protocol):
    """A loaded graph; `run` may be called from several threads at once.

    Attributes:
        name: which engine it is.
        signature: of its graph.
        batches: the batch sizes that it runs as they are, ascending; others are padded or split. Empty where any
            batch is run as it is.
    """

    name: str
    signature: Signature
    batches: tuple[int, ...]

    def run(
        self, images: npt.NDArray[np.uint8], threshold: Threshold | None = None, *, penultimate: bool = False
    ) -> Outputs:
        """Run one batch.

        Args:
            images: uint8 [N, H, W, 3].
            threshold: overrides the graph's own: one for every class, or for a class-conditional gate (K,).
            penultimate: whether to fetch the activations too.

        Raises:
            EngineError: the batch failed.
        """


def threshold_feeds(threshold: Threshold) -> dict[str, npt.NDArray[np.float32]]:
    """The graph's inputs that a threshold goes to.

    ``threshold`` holds for every class; where it is NaN, a class-conditional graph takes those of ``class_thresholds``.
    """
    values = np.asarray(threshold, dtype=np.float32)
    if values.ndim == 0:
        return {"threshold": values}
    return {"threshold": np.array(np.nan, dtype=np.float32), "class_thresholds": values}
