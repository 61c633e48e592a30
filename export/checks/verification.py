"""Verification: the exported file against the classifier it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

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
from runtime.rule import Rule, predicted
from train.data import Images, batches

# A faithful export differs by the rounding of its layers; beyond this share of the largest logit it is another model.
ROUNDING: dict[Precision, float] = {"fp32": 1e-3, "fp16": 1e-2, "int8": 3e-2}


@dataclass(frozen=True)
class Verification:
    """Differences between the classifier and the exported file on the same images.

    Attributes:
        images: how many were compared.
        max_logit_difference: largest absolute difference of a logit; None of a model without classes.
        max_score_difference: for each score, largest relative difference between the graph's value and the float64
            reference on the classifier's activations (:func:`export.detectors.columns.verify`).
        decision_flips: images that one accepts and the other rejects, among those whose gate score, and selection score if
            there is one, is farther from the threshold than the largest difference of that score. (A calibration image lies
            exactly on it.) Where thresholds go by class, among those that both predict as the same class.
            Always 0, or None for a file without a threshold: an export with flips fails.
        max_feature_difference: largest absolute difference of a feature, of a model without classes; None of others.
    """

    images: int
    max_logit_difference: float | None
    max_score_difference: dict[str, float]
    decision_flips: int | None
    max_feature_difference: float | None = None

    def __str__(self) -> str:
        what, difference = ("logits", self.max_logit_difference)
        if difference is None:
            what, difference = ("features", self.max_feature_difference)
        return (
            f"{self.images} images: {what} differ by at most {difference:.2g}, scores by "
            f"{max(self.max_score_difference.values()):.2g} (relative), decisions by {self.decision_flips}"
        )


def verify(
    classifier: Classifier,
    engine: Engine,
    manifest: Manifest,
    images: Images,
    fitted: Mapping[str, Detector] = MappingProxyType({}),
) -> Verification:
    """Compare logits, or without classes features, scores and decisions on images uint8 [N, H, W, 3].

    Args:
        classifier, engine: what was exported, and the file.
        manifest: of the file.
        images: to compare on.
        fitted: detectors that were fitted for it, by the names of their columns.

    Raises:
        ExportError: outputs that differ by more than rounding explains, or a decision that differs.
    """
    logits, penultimate = _outputs(classifier, images)
    labelled = bool(classifier.labels)
    outputs = collect(engine, images, penultimate=not labelled, title="verify")
    what, own = ("logits", logits) if labelled else ("features", penultimate)
    found = outputs.logits if labelled else np.asarray(outputs.penultimate)
    difference = float(np.abs(found - own).max())
    if not difference <= ROUNDING[classifier.precision] * max(1.0, float(np.abs(own).max())):
        raise ExportError(
            f"the exported graph's {what} differ from {classifier.framework}'s by {difference:.3g}; "
            "the model may depend on state or randomness that the export does not see"
        )
    expected, relative = columns.verify(_detectors(manifest, fitted), outputs.scores, logits, penultimate)
    flips = None
    if manifest.gate:
        flips = _flips(manifest, manifest.gate, outputs, logits, expected)
        if flips:
            raise ExportError(
                f"{flips} of {len(images)} decisions of the exported graph differ from {classifier.framework}'s"
            )
    pair = (difference, None) if labelled else (None, difference)
    return Verification(len(images), pair[0], relative, flips, pair[1])


def _flips(
    manifest: Manifest, gate: GateSpec, outputs: Outputs, logits: npt.NDArray[np.float32], expected: Array
) -> int:
    """How many decisions differ, as :class:`Verification` counts them."""
    own, classes = Rule(manifest.labels, manifest.scores, gate), predicted(logits)
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


def _detectors(manifest: Manifest, fitted: Mapping[str, Detector]) -> dict[str, Detector]:
    """The scores that an export has: the base ones, those fitted, those merged of them, and the confidence that selects."""
    base = {**base_scores(manifest.score_parameters, logits=bool(manifest.labels)), **fitted}
    others: dict[str, Detector] = {name: MergedScore(spec, base) for name, spec in manifest.merged.items()}
    others[CONFIDENCE] = Confidence(**manifest.score_parameters.get(CONFIDENCE, {}))
    return {name: (base | others)[name] for name in manifest.scores}


def _outputs(classifier: Classifier, images: Images) -> Activations:
    count = -(-len(images) // BATCH)
    bar = tqdm(batches(images, BATCH), total=count, desc=classifier.framework, unit="batch", disable=None, leave=False)
    logits, penultimate = (np.concatenate(arrays) for arrays in zip(*map(classifier.run, bar), strict=True))
    return logits, penultimate
