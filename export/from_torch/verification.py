"""Verification: the exported file against the torch model it came from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from export.detectors import base as scores
from export.detectors import merged as merge
from export.exceptions import ExportError
from export.from_torch.backbone import Backbone
from export.inference import BATCH, collect
from runtime.engines.interface import Engine
from runtime.manifest import Manifest
from runtime.rule import Rule
from train.data import Images, batches

# A faithful export differs by the rounding of float32; beyond this share of the largest logit it is another model.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Verification:
    """Differences between torch and the exported file on the same images.

    Attributes:
        images: how many were compared.
        max_logit_difference: largest absolute difference of a logit.
        max_score_difference: for each score, largest difference between the graph's value and the float64 reference
            on torch's activations, relative to the reference's magnitude.
        decision_flips: images that one accepts and the other rejects, among those whose gate score is farther from
            the threshold than the largest difference of that score. (A calibration image lies exactly on it.) Where
            thresholds go by class, among those that both predict as the same class.
            Always 0, or None for a file without a threshold: an export with flips fails.
    """

    images: int
    max_logit_difference: float
    max_score_difference: dict[str, float]
    decision_flips: int | None


def verify(backbone: Backbone, engine: Engine, manifest: Manifest, images: Images) -> Verification:
    """Compare logits, scores and decisions on images uint8 [N, H, W, 3].

    Raises:
        ExportError: logits that differ by more than rounding explains, or a decision that differs.
    """
    logits, penultimate = _torch_outputs(backbone, images)
    outputs = collect(engine, images, title="verify")
    logit_difference = float(np.abs(outputs.logits - logits).max())
    if not logit_difference <= _TOLERANCE * max(1.0, float(np.abs(logits).max())):
        raise ExportError(
            f"the exported graph's logits differ from torch's by {logit_difference:.3g}; "
            "the model may depend on state or randomness that the export does not see"
        )
    reference = _reference(logits, penultimate, manifest)
    difference = np.abs(outputs.scores - reference)
    relative = (difference / np.maximum(np.abs(reference), np.finfo(np.float32).tiny)).max(axis=0)
    flips = None
    if manifest.gate:
        column, classes = manifest.scores.index(manifest.gate.score), logits.argmax(axis=1)
        own = Rule.of(manifest)
        distance = np.abs(reference[:, column] - own.thresholds(classes))
        differs = own.verified(outputs) != own.accepts(logits, reference)
        if manifest.gate.classes:  # logits that differ by rounding alone may have another maximum
            differs &= outputs.logits.argmax(axis=1) == classes
        flips = int((differs & (distance > difference[:, column].max())).sum())
        if flips:
            raise ExportError(f"{flips} of {len(images)} decisions of the exported graph differ from torch's")
    return Verification(
        len(images), logit_difference, dict(zip(manifest.scores, relative.tolist(), strict=True)), flips
    )


def _reference(
    logits: npt.NDArray[np.float32], penultimate: npt.NDArray[np.float32], manifest: Manifest
) -> npt.NDArray[np.float64]:
    """Every column of ``scores`` in float64."""
    base = [name for name in manifest.scores if name not in manifest.merged]
    values = scores.compute(logits, penultimate, base, manifest.score_parameters)
    columns = {name: values[:, i] for i, name in enumerate(base)}
    columns |= {name: merge.merge(columns, merged) for name, merged in manifest.merged.items()}
    return np.stack([columns[name] for name in manifest.scores], axis=1)


@torch.inference_mode()
def _torch_outputs(backbone: Backbone, images: Images) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    parts = [backbone(torch.from_numpy(batch)) for batch in batches(images, BATCH)]
    logits, penultimate = (torch.cat(tensors).numpy() for tensors in zip(*parts, strict=True))
    return logits, penultimate
