"""The verdict on one image, the same object in the library and over HTTP."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from runtime.exceptions import UnknownOperatingPoint
from runtime.rule import label_set

Reason = Literal["ood", "uncertain"]


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
class SelectionScore:
    """The score of an image that bounds the error of accepted ones.

    Attributes:
        name: the score's key.
        value: higher is more certain.
        threshold: the image is accepted when it is known and ``value >= threshold``.
    """

    name: str
    value: float
    threshold: float


@dataclass(frozen=True)
class ModelRef:
    """Which model decided: its name and the SHA-256 of its model.onnx."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Decision:
    """Accept, with a label where the model has classes, or reject.

    Attributes:
        decision: ``accept`` or ``reject``.
        label: the predicted class name; None on reject, and of a model without classes.
        class_index: the most probable class, whatever the decision; None of a model without classes.
        confidence: its probability, in [0, 1]: softmax(f / T), or sigmoid(f / T) for multi-label models, with the
            manifest's temperature T; None of a model without classes.
        score: the gate's score against its threshold.
        selection: the second score against its threshold; None where the gate bounds no error.
        uncertain: whether the image is rejected for `selection` alone, as the gate takes it for known.
        scores: every score of the graph by key.
        labels: for multi-label models, the names of all classes with a probability of at least 0.5, none on
            reject; None for other models.
        model: which model decided.
        probabilities: float64 (K,), of every class; not part of the JSON object, nor of equality.
        set_thresholds: the least probability of a label set's members, by coverage; like `probabilities`.
    """

    decision: Literal["accept", "reject"]
    label: str | None
    class_index: int | None
    confidence: float | None
    score: GateScore
    scores: dict[str, float]
    model: ModelRef
    labels: tuple[str, ...] | None = None
    probabilities: npt.NDArray[np.float64] | None = field(default=None, compare=False, repr=False)
    selection: SelectionScore | None = None
    uncertain: bool = False
    set_thresholds: Mapping[float, float] = field(default_factory=dict, compare=False, repr=False)

    @property
    def reason(self) -> Reason | None:
        """Why the image is rejected: it is ``ood``, or known and the answer ``uncertain``; None on accept."""
        if self.decision == "accept":
            return None
        return "uncertain" if self.uncertain else "ood"

    @property
    def is_ood(self) -> bool:
        """Whether the image is rejected as out of distribution."""
        return self.reason == "ood"

    def top(self, n: int) -> list[tuple[int, float]]:
        """The `n` most probable classes, the most probable first: index and probability."""
        if self.probabilities is None:
            return []
        order = np.argsort(-self.probabilities, kind="stable")[:n]
        return list(zip(order.tolist(), self.probabilities[order].tolist(), strict=True))

    def label_set(self, coverage: float) -> list[tuple[int, float]]:
        """The label set of an image that is not out of distribution, the most probable class first: index and probability.

        The sets of in-distribution images have the true label with a probability of at least `coverage`. An image that is
        rejected as uncertain has one too, and one that is out of distribution an empty one.

        Raises:
            UnknownOperatingPoint: no sets of this coverage are stored for the operating point that decided.
        """
        if coverage not in self.set_thresholds:
            stored = ", ".join(f"{one:g}" for one in self.set_thresholds) or "none"
            raise UnknownOperatingPoint(
                f"no label sets of coverage {coverage:g}; stored: {stored}. Calibrate with --prediction-sets for others"
            )
        if self.probabilities is None or self.is_ood:
            return []
        return [(k, float(self.probabilities[k])) for k in label_set(self.probabilities, self.set_thresholds[coverage])]

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of the HTTP interface; a number that is not finite becomes null."""
        return {
            "decision": self.decision,
            "reason": self.reason,
            "is_ood": self.is_ood,
            "label": self.label,
            "class_index": self.class_index,
            "confidence": None if self.confidence is None else _finite(self.confidence),
            "score": {
                "name": self.score.name,
                "value": _finite(self.score.value),
                "threshold": self.score.threshold,
                "p_value": self.score.p_value,
            },
            **({} if self.selection is None else {"selection": _score_json(self.selection)}),
            "scores": {name: _finite(value) for name, value in self.scores.items()},
            **({} if self.labels is None else {"labels": list(self.labels)}),
            "model": {"name": self.model.name, "sha256": self.model.sha256},
        }


def _score_json(score: SelectionScore) -> dict[str, Any]:
    return {"name": score.name, "value": _finite(score.value), "threshold": score.threshold}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
