"""Evaluation of a bundle as it is deployed: its own graph, its own threshold."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

from export.inference import collect
from export.metrics import Detection, detection
from runtime.bundle import MODEL
from runtime.engines.interface import Engine, Outputs
from runtime.manifest import Manifest
from train.data import Images, ImageSet, short_name
from train.metrics import mean_average_precision


@dataclass(frozen=True)
class InDistribution:
    """What happens to images that the model knows.

    Attributes:
        source, images: which, and how many.
        accuracy: share of all images classified right, None for multi-label models.
        accuracy_accepted: the same among accepted images.
        acceptance: share accepted at the stored threshold.
        acceptance_interval: central 95 % binomial interval around the manifest's `tpr_target` for so many images.
        mean_average_precision: of a multi-label model on images with labels of that kind
            (:func:`train.metrics.mean_average_precision`), else None.
    """

    source: str
    images: int
    accuracy: float | None
    accuracy_accepted: float | None
    acceptance: float
    acceptance_interval: tuple[float, float]
    mean_average_precision: float | None = None


@dataclass(frozen=True)
class OutOfDistribution:
    """What happens to images that the model does not know.

    Attributes:
        source, images: which, and how many.
        rejection: share rejected at the stored threshold.
        scores: how well each score separates them from the in-distribution images.
    """

    source: str
    images: int
    rejection: float
    scores: dict[str, Detection]


@dataclass(frozen=True)
class Evaluation:
    """A bundle's figures, with the gate they were measured for."""

    model: str
    sha256: str
    score: str
    threshold: float
    alpha: float
    id: InDistribution
    ood: dict[str, OutOfDistribution]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return dataclasses.asdict(self)


def evaluate(
    engine: Engine,
    manifest: Manifest,
    id_set: tuple[str, ImageSet],
    ood_sets: Mapping[str, tuple[str, Images]],
) -> tuple[Evaluation, dict[str, npt.NDArray[np.float32]]]:
    """Run the engine over every set and compute the figures.

    Args:
        engine: the bundle's graph.
        manifest: the bundle's; calibrated.
        id_set: source and labelled images of the model's own classes.
        ood_sets: for each name, source and images uint8 [N, H, W, 3].

    Returns:
        the figures, and for plots the gate's scores of each set (the in-distribution one under its key ``ID``).
    """
    gate = manifest.gate
    assert gate is not None, "evaluate needs a calibrated bundle"
    column = manifest.scores.index(gate.score)
    source, images = id_set
    known = collect(engine, images.images, title="ID")
    known_scores = _rejectable(known)
    histograms = {"ID": known_scores[:, column]}
    ood = {}
    for name, (ood_source, ood_images) in ood_sets.items():
        unknown = collect(engine, ood_images, title=name)
        unknown_scores = _rejectable(unknown)
        histograms[name] = unknown_scores[:, column]
        ood[name] = OutOfDistribution(
            source=short_name(ood_source),
            images=len(ood_images),
            rejection=float(1 - unknown.accept.mean()),
            scores={
                score: detection(known_scores[:, i], unknown_scores[:, i]) for i, score in enumerate(manifest.scores)
            },
        )
    right = known.logits.argmax(axis=1) == images.labels if manifest.task == "multiclass" else None
    multilabel = manifest.task == images.task == "multilabel"
    low, high = binom.interval(0.95, len(images), gate.tpr_target)
    figures = Evaluation(
        model=manifest.model.name,
        sha256=manifest.files[MODEL].sha256,
        score=gate.score,
        threshold=gate.threshold,
        alpha=gate.alpha,
        id=InDistribution(
            source=short_name(source),
            images=len(images),
            accuracy=None if right is None else float(right.mean()),
            accuracy_accepted=None if right is None or not known.accept.any() else float(right[known.accept].mean()),
            acceptance=float(known.accept.mean()),
            acceptance_interval=(float(low) / len(images), float(high) / len(images)),
            mean_average_precision=mean_average_precision(known.logits, images.labels) if multilabel else None,
        ),
        ood=ood,
    )
    return figures, histograms


def _rejectable(outputs: Outputs) -> npt.NDArray[np.float32]:
    """Scores with everything that is not finite, and so rejects, below every finite score."""
    lowest = np.finfo(np.float32).min
    return np.where(np.isfinite(outputs.scores), outputs.scores, lowest)
