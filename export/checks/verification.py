"""Verification: the exported file against the classifier it came from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from export.classifier import Activations, Classifier
from export.detectors import columns
from export.detectors.base import base_scores
from export.detectors.combined.merged import MergedScore
from export.detectors.confidence import CONFIDENCE, Confidence
from export.detectors.interface import Array, Detector
from export.exceptions import ExportError
from export.images.inference import BATCH, collect
from runtime.engines.interface import Engine, Outputs
from runtime.manifest import GateSpec, Manifest, Precision
from runtime.rule import Rule
from train.data import Images, batches

# A faithful export differs by the rounding of its layers; beyond this share of the largest logit it is another model.
ROUNDING: dict[Precision, float] = {"fp32": 1e-3, "fp16": 1e-2, "int8": 3e-2}


@dataclass(frozen=True)
class Verification:
    """Differences between the classifier and the exported file on the same images.

    Attributes:
        images: how many were compared.
        max_logit_difference: largest absolute difference of a logit.
        max_score_difference: for each score, largest relative difference between the graph's value and the float64
            reference on the classifier's activations (:func:`export.detectors.columns.verify`).
        decision_flips: images that one accepts and the other rejects, among those whose gate score, and selection score if
            there is one, is farther from the threshold than the largest difference of that score. (A calibration image lies
            exactly on it.) Where thresholds go by class, among those that both predict as the same class.
            Always 0, or None for a file without a threshold: an export with flips fails.
    """

    images: int
    max_logit_difference: float
    max_score_difference: dict[str, float]
    decision_flips: int | None

    def __str__(self) -> str:
        return (
            f"{self.images} images: logits differ by at most {self.max_logit_difference:.2g}, scores by "
            f"{max(self.max_score_difference.values()):.2g} (relative), decisions by {self.decision_flips}"
        )


def verify(classifier: Classifier, engine: Engine, manifest: Manifest, images: Images) -> Verification:
    """Compare logits, scores and decisions on images uint8 [N, H, W, 3].

    Raises:
        ExportError: logits that differ by more than rounding explains, or a decision that differs.
    """
    logits, penultimate = _outputs(classifier, images)
    outputs = collect(engine, images, title="verify")
    logit_difference = float(np.abs(outputs.logits - logits).max())
    if not logit_difference <= ROUNDING[classifier.precision] * max(1.0, float(np.abs(logits).max())):
        raise ExportError(
            f"the exported graph's logits differ from {classifier.framework}'s by {logit_difference:.3g}; "
            "the model may depend on state or randomness that the export does not see"
        )
    expected, relative = columns.verify(_detectors(manifest), outputs.scores, logits, penultimate)
    flips = None
    if manifest.gate:
        flips = _flips(manifest, manifest.gate, outputs, logits, expected)
        if flips:
            raise ExportError(
                f"{flips} of {len(images)} decisions of the exported graph differ from {classifier.framework}'s"
            )
    return Verification(len(images), logit_difference, relative, flips)


def _flips(
    manifest: Manifest, gate: GateSpec, outputs: Outputs, logits: npt.NDArray[np.float32], expected: Array
) -> int:
    """How many decisions differ, as :class:`Verification` counts them."""
    own, classes = Rule(manifest.labels, manifest.scores, gate), logits.argmax(axis=1)
    limits = [(own.column, own.thresholds(classes))]
    if own.selects is not None:
        limits.append((own.selects, np.full(len(classes), own.least)))
    differences = np.abs(outputs.scores - expected).max(axis=0)
    clear = np.all([np.abs(expected[:, i] - limit) > differences[i] for i, limit in limits], axis=0)
    accepted = own.accepts(outputs.logits, outputs.scores) if outputs.accept is None else outputs.accept
    differs = accepted != own.accepts(logits, expected)
    if gate.classes:  # logits that differ by rounding alone may have another maximum
        differs &= outputs.logits.argmax(axis=1) == classes
    return int((differs & clear).sum())


def _detectors(manifest: Manifest) -> dict[str, Detector]:
    """The scores that an export has: the base ones, those merged of them, and the confidence that selects."""
    base = base_scores(manifest.score_parameters)
    others: dict[str, Detector] = {name: MergedScore(spec, base) for name, spec in manifest.merged.items()}
    others[CONFIDENCE] = Confidence(**manifest.score_parameters.get(CONFIDENCE, {}))
    return {name: (base | others)[name] for name in manifest.scores}


def _outputs(classifier: Classifier, images: Images) -> Activations:
    parts = [classifier.run(batch) for batch in batches(images, BATCH)]
    logits, penultimate = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return logits, penultimate
