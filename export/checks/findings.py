"""What an export found out about the classifier: printed, and kept in the manifest."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from export.calibrate.gating import Gated
from export.checks.accuracy import Accuracy, accuracy_text, measure, remarks, unlabelled_remarks
from export.checks.examination import Examined
from export.checks.preprocessing import preprocessing_remarks
from export.checks.sample import Sample


@dataclass(frozen=True)
class Findings:
    """Before the export, and by calibrating it.

    Attributes:
        undone: what was taken off the network's outputs to have logits, such as ``softmax``.
        accuracy: on the calibration images, where they are labelled.
        notes, warnings: a line each.
    """

    undone: tuple[str, ...]
    accuracy: Accuracy | None
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """To print."""
        if self.accuracy:
            yield accuracy_text(dataclasses.asdict(self.accuracy))
        yield from (f"note: {line}" for line in self.notes)
        yield from (f"warning: {line}" for line in self.warnings)

    def provenance(self) -> dict[str, Any]:
        """For the manifest: plain data."""
        return {
            "undone": list(self.undone),
            "accuracy": dataclasses.asdict(self.accuracy) if self.accuracy else None,
            "warnings": list(self.warnings),
        }


def findings(classifier: Examined, images: Sample | None = None, gated: Gated | None = None) -> Findings:
    """All that is to be said of the classifier; what there is of its gate :func:`export.calibrate.gating.fit_gate` says.

    Args:
        classifier: that is exported.
        images: some of those that calibrated it.
        gated: its calibrated gate.
    """
    warnings, accuracy = [*classifier.warnings], None
    if gated and gated.labels is not None and (accuracy := measure(gated.logits, gated.labels)) is not None:
        warnings += remarks(gated.logits, gated.labels, classifier.labels, accuracy)
        if images is not None:
            warnings += preprocessing_remarks(classifier.behind, classifier.input, images)
    elif gated and classifier.task == "multiclass":
        warnings += unlabelled_remarks(gated.logits, classifier.labels)
    notes = classifier.remarks[len(classifier.origin.remarks) :]
    return Findings(classifier.steps, accuracy, notes, tuple(warnings))
