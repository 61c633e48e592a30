"""What an evaluation keeps of a set of images: outputs of the deployed graph, and no image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from export.exceptions import ExportError
from export.images.inference import stream
from export.metrics.intervals import Interval, share
from runtime.engines.interface import Engine, Outputs
from runtime.manifest import GateSpec, Manifest
from runtime.rule import Rule, predicted, probabilities
from train.data import ImageSet, Labels, short_name
from train.data.sketches import hashes, looks

LOWEST = np.finfo(np.float32).min  # stands for a score that is not finite


@dataclass(frozen=True)
class Observed:
    """N images as the bundle sees them.

    Attributes:
        source: where they come from, without its directories.
        scores: float32 (N, S); one that is not finite, and so rejects, is below every finite score.
        accept: bool (N,), at the thresholds in the file.
        predicted: int64 (N,), the class of the largest logit; 0 of a model without classes.
        confidence: float64 (N,), the largest probability at the calibrated temperature; 0 where it is not finite, and
            of a model without classes.
        hashes: uint64 (N,), of the pixels (:func:`train.data.sketches.hashes`).
        labels: the ID set's: int64 (N,), or bool (N, K) where an image has several or none.
        logits: float32 (N, K), kept where average precision needs them, and on request.
        looks: uint32 (N,), of what the images look like (:func:`train.data.sketches.looks`).
        known: bool (N,), what the gate lets pass, where a second threshold bounds the error of accepted images.
    """

    source: str
    scores: npt.NDArray[np.float32]
    accept: npt.NDArray[np.bool_]
    predicted: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]
    hashes: npt.NDArray[np.uint64]
    labels: Labels | None = None
    logits: npt.NDArray[np.float32] | None = None
    looks: npt.NDArray[np.uint32] | None = None
    known: npt.NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.accept)

    @property
    def right(self) -> npt.NDArray[np.bool_] | None:
        """Which are classified right, bool (N,); None where images have no label, or several."""
        return self.predicted == self.labels if self.labels is not None and self.labels.ndim == 1 else None

    @property
    def uncertain(self) -> float | None:
        """The share taken for known and rejected all the same; None where nothing bounds the error of accepted images."""
        return None if self.known is None else int((self.known & ~self.accept).sum()) / len(self)

    def accuracy(self, where: npt.NDArray[np.bool_] | None = None) -> tuple[float, Interval] | tuple[None, None]:
        """The share of images, or of those `where`, that are classified right, with its 95 % interval, if there are any."""
        right = self.right if self.right is None or where is None else self.right[where]
        if right is None or not len(right):
            return None, None
        return float(right.mean()), share(int(right.sum()), len(right))


def gate_of(manifest: Manifest) -> GateSpec:
    """The gate of a bundle that is evaluated.

    Raises:
        ExportError: it is not calibrated.
    """
    if manifest.gate is None:
        raise ExportError(f"{manifest.model.name} has no threshold yet: run oodgate calibrate BUNDLE SOURCE")
    return manifest.gate


def observe(
    engine: Engine, manifest: Manifest, source: str, images: ImageSet, *, title: str, logits: bool = False
) -> Observed:
    """Run images that the model need not know, a batch at a time."""
    return _observe(engine, manifest, source, images, title=title, logits=logits)


def observe_known(
    engine: Engine, manifest: Manifest, source: str, images: ImageSet, *, title: str = "ID", logits: bool = False
) -> Observed:
    """Run images of the model's own classes, and keep their labels, if they have any, as indices of the manifest's.

    Raises:
        DataError: a class that the model does not have, beside others that it has.
        ExportError: images with any number of labels for a model that gives one.
    """
    if manifest.task == "multiclass" and images.task == "multilabel":
        raise ExportError(f"{source}: its images have any number of labels each; the model gives one")
    if manifest.task == "multilabel" and images.task == "multiclass":
        # one label says nothing of the others
        return _observe(engine, manifest, source, images, title=title, logits=logits)
    named = images.with_labels_of(manifest.labels, source)
    if named is None:
        return _observe(engine, manifest, source, images, title=title, logits=logits)
    return _observe(engine, manifest, source, named, title=title, labels=named.labels, logits=logits)


def _observe(
    engine: Engine,
    manifest: Manifest,
    source: str,
    images: ImageSet,
    *,
    title: str,
    labels: Labels | None = None,
    logits: bool,
) -> Observed:
    rule, temperature = Rule.of(manifest), manifest.confidence.temperature if manifest.confidence else 1.0
    parts: dict[str, list[npt.NDArray[np.generic]]] = {}
    for batch, outputs in stream(engine, images.images, title=title):
        kept: dict[str, npt.NDArray[np.generic]] = {
            "scores": np.where(np.isfinite(outputs.scores), outputs.scores, LOWEST),
            "accept": rule.verified(outputs),
            "predicted": predicted(outputs.logits),
            "confidence": _confidence(outputs, temperature, multilabel=manifest.task == "multilabel"),
            "hashes": (hashed := hashes(batch)),
            "looks": looks(batch, hashed),
        }
        if rule.selects is not None:
            kept["known"] = rule.known(outputs.logits, outputs.scores)
        if logits or (labels is not None and labels.ndim == 2):
            kept["logits"] = outputs.logits
        for name, part in kept.items():
            parts.setdefault(name, []).append(part)
    columns = {name: np.concatenate(items) for name, items in parts.items()}
    return Observed(source=short_name(source), labels=labels, **columns)


def _confidence(outputs: Outputs, temperature: float, *, multilabel: bool) -> npt.NDArray[np.float64]:
    """The reported confidence; 0 without classes, and where it is not finite."""
    largest = probabilities(outputs.logits, temperature, multilabel).max(axis=1, initial=0)
    return np.where(np.isfinite(largest), largest, 0.0)
