"""Evaluation of a bundle as it is deployed: its own graph, its own threshold."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from scipy.stats import betabinom

from export import conformal
from export.metrics.detection import Detection, DetectionIntervals, detection, detection_intervals
from export.metrics.intervals import Interval, share
from export.metrics.leaderboard import Leaderboard
from export.metrics.multilabel import MeanAveragePrecision, mean_average_precision
from export.metrics.observation import Observed, gate_of
from export.metrics.selective import RiskCoverage, risk_coverage
from export.metrics.shift import Shifted, full_spectrum, shifted
from runtime.bundle import MODEL
from runtime.manifest import ErrorBound, GateSpec, Manifest


@dataclass(frozen=True)
class InDistribution:
    """What happens to images that the model knows; every interval is one of 95 %.

    Attributes:
        source, images: which, and how many.
        accuracy, accuracy_interval: share of all images classified right; None for multi-label models.
        accuracy_accepted, accuracy_accepted_interval: the same among accepted images.
        acceptance, acceptance_interval: share accepted at the stored thresholds.
        acceptance_expected: central interval of that share for a threshold calibrated as the manifest says and as many
            images exchangeable with the calibration images: beta-binomial, for both sets are finite. None where every
            predicted class has a threshold of its own, or a second threshold bounds the error of accepted images.
        risk_coverage: the order of answering by ``confidence`` (largest softmax probability) and by the gate's
            ``score``; empty for multi-label models.
        mean_average_precision: of multi-hot labels; None for multi-class models.
        uncertain: share that the gate takes for known and that is rejected as uncertain; None where nothing bounds the error
            of accepted images.
    """

    source: str
    images: int
    accuracy: float | None
    accuracy_interval: Interval | None
    accuracy_accepted: float | None
    accuracy_accepted_interval: Interval | None
    acceptance: float
    acceptance_interval: Interval
    acceptance_expected: Interval | None
    risk_coverage: dict[str, RiskCoverage]
    mean_average_precision: MeanAveragePrecision | None
    uncertain: float | None = None


@dataclass(frozen=True)
class OutOfDistribution:
    """What happens to images that the model does not know; every interval is one of 95 %.

    Attributes:
        source, images: which, and how many.
        rejection, rejection_interval: share rejected at the stored threshold.
        scores: how well each score separates them from the in-distribution images.
        intervals: of these figures.
    """

    source: str
    images: int
    rejection: float
    rejection_interval: Interval
    scores: dict[str, Detection]
    intervals: dict[str, DetectionIntervals]


@dataclass(frozen=True)
class Evaluation:
    """A bundle's figures, with the gate they were measured for.

    Attributes:
        model, sha256, score, threshold, alpha: of the bundle.
        id, ood: what happens to known images, and to those of each OOD set.
        max_error: its bound on the error of accepted images, if any.
        shifted: what happens to known images that are shifted, by set.
        full_spectrum: detection by OOD set and score where the shifted images count as known; empty without them.
        leaderboard: the figures of a protocol, if one was followed.
    """

    model: str
    sha256: str
    score: str
    threshold: float
    alpha: float
    id: InDistribution
    ood: dict[str, OutOfDistribution]
    max_error: ErrorBound | None = None
    shifted: dict[str, Shifted] = field(default_factory=dict)
    full_spectrum: dict[str, dict[str, Detection]] = field(default_factory=dict)
    leaderboard: Leaderboard | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return dataclasses.asdict(self)


def evaluate(
    manifest: Manifest,
    known: Observed,
    unknown: Mapping[str, Observed],
    moved: Mapping[str, Observed] = MappingProxyType({}),
) -> Evaluation:
    """The figures of a calibrated bundle from what it made of in-distribution and, by name, other and shifted images.

    Raises:
        ExportError: a bundle that is not calibrated.
    """
    gate = gate_of(manifest)
    in_distribution = _in_distribution(manifest, gate, known)
    return Evaluation(
        model=manifest.model.name,
        sha256=manifest.files[MODEL].sha256,
        score=gate.score,
        threshold=gate.threshold,
        alpha=gate.alpha,
        id=in_distribution,
        ood={name: _out_of_distribution(manifest, known, images) for name, images in unknown.items()},
        max_error=gate.max_error,
        shifted={name: shifted(images, in_distribution.accuracy) for name, images in moved.items()},
        full_spectrum=full_spectrum(manifest.scores, known, list(moved.values()), unknown),
    )


def _in_distribution(manifest: Manifest, gate: GateSpec, known: Observed) -> InDistribution:
    labels, accepted, total = known.labels, int(known.accept.sum()), len(known)
    accuracy, accuracy_interval = known.accuracy()
    of_accepted, of_accepted_interval = known.accuracy(known.accept)
    curves: dict[str, RiskCoverage] = {}
    precision = None
    if (right := known.right) is not None:
        curves = {
            "confidence": risk_coverage(known.confidence, right),
            "score": risk_coverage(known.scores[:, manifest.scores.index(gate.score)], right),
        }
    elif labels is not None and known.logits is not None:
        precision = mean_average_precision(known.logits, labels.astype(np.bool_))
    return InDistribution(
        source=known.source,
        images=total,
        accuracy=accuracy,
        accuracy_interval=accuracy_interval,
        accuracy_accepted=of_accepted,
        accuracy_accepted_interval=of_accepted_interval,
        acceptance=accepted / total,
        acceptance_interval=share(accepted, total),
        acceptance_expected=None if gate.class_conditional or gate.max_error else expected_acceptance(gate, total),
        risk_coverage=curves,
        mean_average_precision=precision,
        uncertain=known.uncertain,
    )


def _out_of_distribution(manifest: Manifest, known: Observed, unknown: Observed) -> OutOfDistribution:
    columns = {name: (known.scores[:, i], unknown.scores[:, i]) for i, name in enumerate(manifest.scores)}
    figures = {name: detection(*pair) for name, pair in columns.items()}
    rejected = int((~unknown.accept).sum())
    return OutOfDistribution(
        source=unknown.source,
        images=len(unknown),
        rejection=rejected / len(unknown),
        rejection_interval=share(rejected, len(unknown)),
        scores=figures,
        intervals={name: detection_intervals(*pair, figures[name]) for name, pair in columns.items()},
    )


def expected_acceptance(gate: GateSpec, images: int) -> Interval:
    """Central 95 % of BetaBinomial(images, n + 1 - k, k) / images, k being the threshold's rank among n; to 1 with ties."""
    n = gate.n_calibration
    k = conformal.rank(n, gate.alpha, gate.confidence)
    low, high = betabinom.ppf([0.025, 0.975], images, n + 1 - k, k)
    tied = conformal.tied(gate.threshold, gate.calibration.quantiles[gate.score])
    return float(low) / images, 1.0 if tied else float(high) / images
