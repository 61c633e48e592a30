"""What the outcomes say of the answers, as of now."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from runtime.manifest import GateSpec
from serving.outcomes.bound import upper

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Counts:
    """Outcomes of all workers since the service began with the bundle.

    Attributes:
        answers: accepted answers whose label is known.
        errors: how many of them were wrong.
        rejected: rejected images whose label is known.
    """

    answers: int = 0
    errors: int = 0
    rejected: int = 0


@dataclass(frozen=True)
class Report:
    """The live error of accepted answers.

    Attributes:
        answers, errors, rejected: as in :class:`Counts`.
        error_rate: errors / answers; None without answers.
        error_upper: bound on the mean error probability of these answers (:func:`serving.outcomes.bound.upper`), below it at
            any time, ever, with probability at most 1 - confidence.
        confidence: of the bound.
        promised: the largest error rate that the gate's calibration promises; None where it promises none.
    """

    answers: int
    errors: int
    rejected: int
    error_rate: float | None
    error_upper: float
    confidence: float
    promised: float | None

    @classmethod
    def of(cls, counts: Counts, gate: GateSpec) -> Report:
        """What the counts say of the answers of a gate."""
        return cls(
            counts.answers,
            counts.errors,
            counts.rejected,
            error_rate=counts.errors / counts.answers if counts.answers else None,
            error_upper=upper(counts.errors, counts.answers, CONFIDENCE),
            confidence=CONFIDENCE,
            promised=gate.max_error.rate if gate.max_error else None,
        )

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of the HTTP interface."""
        return dataclasses.asdict(self)
