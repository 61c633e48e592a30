"""The decision on the host, for engines in which the threshold is a constant; and batches in pieces."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from runtime import rule
from runtime.engines.interface import Outputs, Threshold
from runtime.manifest import Manifest


class HostGate:
    """What the graph's output ``accept`` says, from its logits and scores.

    Args:
        manifest: without a gate, nothing is accepted.
    """

    def __init__(self, manifest: Manifest) -> None:
        gate = manifest.gate
        self._column = manifest.scores.index(gate.score) if gate else 0
        self._default: Threshold = rule.thresholds(manifest.labels, gate) if gate else float("nan")

    def accept(
        self, logits: npt.NDArray[np.float32], scores: npt.NDArray[np.float32], threshold: Threshold | None
    ) -> npt.NDArray[np.bool_]:
        """Whether the gate's score reaches the threshold and every score is finite (N,).

        Args:
            logits, scores: [N, K] and [N, S].
            threshold: one for every class, or (K,); the manifest's where it is None.
        """
        limits = np.asarray(self._default if threshold is None else threshold, dtype=np.float32)
        if limits.ndim:
            limits = limits[logits.argmax(axis=1)]
        return np.asarray((scores[:, self._column] >= limits) & np.isfinite(scores).all(axis=1))


def in_pieces(run: Callable[[npt.NDArray[np.uint8]], Outputs], images: npt.NDArray[np.uint8], largest: int) -> Outputs:
    """Run a batch of any size in pieces of at most `largest`; an empty one is one piece."""
    parts = [run(images[start : start + largest]) for start in range(0, max(len(images), 1), largest)]
    if len(parts) == 1:
        return parts[0]
    activations = [part.penultimate for part in parts if part.penultimate is not None]
    return Outputs(
        logits=np.concatenate([part.logits for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        accept=np.concatenate([part.accept for part in parts]),
        penultimate=np.concatenate(activations) if activations else None,
    )
