"""What the gate asks of an engine, and how one is chosen and made."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from runtime.bundle import Signature

EngineName = Literal[
    "auto",
    "onnxruntime-cpu",
    "onnxruntime-cuda",
    "onnxruntime-tensorrt",
    "onnxruntime-rtx",
    "tensorrt",
    "tensorrt-rtx",
    "openvino",
]


def _home_cache() -> Path:
    """The user's cache; where the user has no home, a path that can't be written, for engines that need one to say so."""
    try:
        return Path.home() / ".cache" / "oodgate"
    except RuntimeError:
        return Path(os.devnull) / "oodgate"


@dataclass(frozen=True)
class EngineOptions:
    """How a bundle's engine is chosen and made.

    Attributes:
        name: which engine; ``auto`` takes the best that works here.
        threads: of one inference on the CPU; 0 takes one for each physical core.
        cache: folder for what an engine builds at start-up, so that the next start finds it.
        contexts: batches that a native engine, or OpenVINO with one thread, runs at the same time.
    """

    name: EngineName = "auto"
    threads: int = 0
    cache: Path = field(default_factory=_home_cache)
    contexts: int = 2


@dataclass(frozen=True)
class Outputs:
    """One batch's results.

    Attributes:
        logits: float32 [N, K]; [N, 0] of a graph without logits.
        scores: float32 [N, S].
        accept: bool [N], what the graph itself says at its default operating point; None from an engine that does not
            output it. :meth:`runtime.rule.Rule.accepts` decides.
        penultimate: float32 [N, D], or None when it was not asked for.
    """

    logits: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    accept: npt.NDArray[np.bool_] | None = None
    penultimate: npt.NDArray[np.float32] | None = None

    @classmethod
    def of(cls, found: Mapping[str, npt.NDArray[Any]]) -> Outputs:
        """From arrays by the names of the graph's outputs, ``scores`` at least."""
        scores = found["scores"]
        logits = found.get("logits")
        none = np.empty((len(scores), 0), np.float32) if logits is None else logits
        return cls(none, scores, found.get("accept"), found.get("penultimate"))


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

    def run(self, images: npt.NDArray[np.uint8], *, penultimate: bool = False) -> Outputs:
        """Run one batch.

        Args:
            images: uint8 [N, H, W, 3].
            penultimate: whether to fetch the activations too.

        Raises:
            EngineError: the batch failed.
        """


def fetched(signature: Signature, *, penultimate: bool) -> list[str]:
    """The outputs that engines fetch, in order: the logits, where the graph has any, the scores, and what is asked for."""
    return [name for name in ("logits", "scores") if name in signature.outputs] + ["penultimate"] * penultimate


def in_pieces(run: Callable[[npt.NDArray[np.uint8]], Outputs], images: npt.NDArray[np.uint8], largest: int) -> Outputs:
    """Run a batch of any size in pieces of at most `largest`; an empty one is one piece."""
    return joined([run(images[start : start + largest]) for start in range(0, max(len(images), 1), largest)])


def joined(parts: list[Outputs]) -> Outputs:
    """The outputs of several batches, at least one, as those of one batch, in order."""
    if len(parts) == 1:
        return parts[0]
    accept = [part.accept for part in parts if part.accept is not None]
    activations = [part.penultimate for part in parts if part.penultimate is not None]
    return Outputs(
        logits=np.concatenate([part.logits for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        accept=np.concatenate(accept) if accept else None,
        penultimate=np.concatenate(activations) if activations else None,
    )
