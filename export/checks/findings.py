"""What an export found out about the classifier and the images that calibrate it: printed, and kept in the manifest."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from export.calibrate.gating import Gated
from export.checks.accuracy import Accuracy, accuracy_text, measure, remarks
from export.checks.examination import Examined
from export.checks.images import image_remarks, score_remarks
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
    """All that is to be said.

    Args:
        classifier: that is exported.
        images: some of those that calibrated it.
        gated: its calibrated gate.

    Raises:
        ExportError: images that can calibrate nothing.
    """
    warnings, accuracy = [*classifier.warnings], None
    if images is not None:
        warnings += image_remarks(images, classifier.input)
    if gated is not None:
        if gated.manifest.gate is not None:
            warnings += score_remarks(gated.manifest.gate)
        if gated.labels is not None and (accuracy := measure(gated.logits, gated.labels)) is not None:
            warnings += remarks(gated.logits, gated.labels, classifier.labels, accuracy)
            if images is not None:
                warnings += preprocessing_remarks(classifier.behind, classifier.input, images)
    notes = classifier.remarks[len(classifier.origin.remarks) :]
    return Findings(classifier.steps, accuracy, notes, tuple(warnings))
