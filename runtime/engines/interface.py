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
    """A graph's face: inputs, outputs and the manifest it carries (None if it carries none)."""

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    manifest: str | None


@dataclass(frozen=True)
class Outputs:
    """One batch's results.

    Attributes:
        logits: float32 [N, K].
        scores: float32 [N, S].
        accept: bool [N], gate score >= threshold and every score finite.
        penultimate: float32 [N, D], or None when it was not asked for.
    """

    logits: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    accept: npt.NDArray[np.bool_]
    penultimate: npt.NDArray[np.float32] | None = None


class Engine(Protocol):
    """A loaded graph; `run` may be called from several threads at once."""

    name: str
    signature: Signature

    def run(
        self, images: npt.NDArray[np.uint8], threshold: float | None = None, *, penultimate: bool = False
    ) -> Outputs:
        """Run one batch.

        Args:
            images: uint8 [N, H, W, 3].
            threshold: overrides the graph's own.
            penultimate: whether to fetch the activations too.

        Raises:
            EngineError: the batch failed.
        """
