"""What decisions say as tensors, which the Open Inference Protocol sends: one table for every server that speaks it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.decision import Decision
from runtime.manifest import Manifest

INPUT = "images"


@dataclass(frozen=True)
class Output:
    """One output tensor: its type in the protocol's words and in numpy's, and its values for decisions.

    Attributes:
        columns: its shape for one image, of a model.
    """

    datatype: str
    dtype: str
    values: Callable[[Sequence[Decision]], Any]
    columns: Callable[[Manifest], tuple[int, ...]] = lambda _: ()

    def tensor(self, decisions: Sequence[Decision]) -> npt.NDArray[Any]:
        """(N, ...) of the decisions."""
        return np.array(self.values(decisions), dtype=self.dtype)


OUTPUTS = {
    "accept": Output("BOOL", "?", lambda ds: [d.decision == "accept" for d in ds]),
    "reason": Output("BYTES", "O", lambda ds: [(d.reason or "").encode() for d in ds]),
    "label": Output("BYTES", "O", lambda ds: [(d.label or "").encode() for d in ds]),
    "class_index": Output("INT32", "<i4", lambda ds: [d.class_index for d in ds]),
    "confidence": Output("FP32", "<f4", lambda ds: [d.confidence for d in ds]),
    "p_value": Output("FP64", "<f8", lambda ds: [d.score.p_value for d in ds]),
    "scores": Output("FP32", "<f4", lambda ds: [list(d.scores.values()) for d in ds], lambda m: (len(m.scores),)),
    "probabilities": Output("FP32", "<f4", lambda ds: [d.probabilities for d in ds], lambda m: (len(m.labels),)),
}

_OF_CLASSES = ("label", "class_index", "confidence", "probabilities")


def outputs_of(manifest: Manifest) -> dict[str, Output]:
    """Those that a model has: one without classes none that tell of them."""
    return {name: output for name, output in OUTPUTS.items() if manifest.labels or name not in _OF_CLASSES}
