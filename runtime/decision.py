"""The verdict on one image, the same object in the library and over HTTP."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class GateScore:
    """The gate's score of an image.

    Attributes:
        name: the score's key.
        value: higher is more in-distribution; NaN and infinities reject.
        threshold: the image is accepted when ``value >= threshold``; of a class-conditional gate, that of the
            predicted class.
        p_value: conformal p-value, the share of in-distribution images (of a class-conditional gate, predicted as
            the same class) that look at most as typical as this one; in (0, 1].
    """

    name: str
    value: float
    threshold: float
    p_value: float


@dataclass(frozen=True)
class ModelRef:
    """Which model decided: its name and the SHA-256 of its model.onnx."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Decision:
    """Accept with a label, or reject.

    Attributes:
        decision: ``accept`` or ``reject``.
        label: the predicted class name; None on reject.
        class_index: the most probable class, whatever the decision.
        confidence: its probability, in [0, 1]: softmax(f / T), or sigmoid(f / T) for multi-label models, with the
            manifest's temperature T.
        score: the gate's score against its threshold.
        scores: every score of the graph by key.
        labels: for multi-label models, the names of all classes with a probability of at least 0.5, none on
            reject; None for other models.
        model: which model decided.
        probabilities: float64 (K,), of every class; not part of the JSON object, nor of equality.
    """

    decision: Literal["accept", "reject"]
    label: str | None
    class_index: int
    confidence: float
    score: GateScore
    scores: dict[str, float]
    model: ModelRef
    labels: tuple[str, ...] | None = None
    probabilities: npt.NDArray[np.float64] | None = field(default=None, compare=False, repr=False)

    @property
    def is_ood(self) -> bool:
        """Whether the image was rejected."""
        return self.decision == "reject"

    def top(self, n: int) -> list[tuple[int, float]]:
        """The `n` most probable classes, the most probable first: index and probability."""
        if self.probabilities is None:
            return []
        order = np.argsort(-self.probabilities, kind="stable")[:n]
        return list(zip(order.tolist(), self.probabilities[order].tolist(), strict=True))

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of the HTTP interface; a number that is not finite becomes null."""
        return {
            "decision": self.decision,
            "is_ood": self.is_ood,
            "label": self.label,
            "class_index": self.class_index,
            "confidence": _finite(self.confidence),
            "score": {
                "name": self.score.name,
                "value": _finite(self.score.value),
                "threshold": self.score.threshold,
                "p_value": self.score.p_value,
            },
            "scores": {name: _finite(value) for name, value in self.scores.items()},
            **({} if self.labels is None else {"labels": list(self.labels)}),
            "model": {"name": self.model.name, "sha256": self.model.sha256},
        }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
