"""How two artifacts of one classifier differ on the same images: logits and labels, if any, scores and decisions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from export.detectors.confidence import CONFIDENCE
from export.exceptions import ExportError
from export.metrics.observation import LOWEST, gate_of
from runtime.engines.interface import Outputs
from runtime.manifest import GateSpec, Manifest, Parity
from runtime.rule import Rule, predicted

QUANTILES = (0.5, 0.9, 0.99)

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Spread:
    """Absolute differences.

    Attributes:
        mean, max: of all.
        quantiles: at :data:`QUANTILES`.
    """

    mean: float
    max: float
    quantiles: tuple[float, ...]


@dataclass(frozen=True)
class Flips:
    """Images that A and B decide otherwise.

    Attributes:
        newly_rejected: A accepts, B rejects.
        newly_accepted: A rejects, B accepts.
    """

    newly_rejected: int
    newly_accepted: int

    @property
    def total(self) -> int:
        return self.newly_rejected + self.newly_accepted


@dataclass(frozen=True)
class Difference:
    """A and B on a set of images.

    Attributes:
        source, images: which, and how many.
        logits: over all logits; None of models without classes.
        scores: for each score that both have.
        label_agreement: share of images that both predict as the same class; None of models without classes.
        flips: each at its own threshold.
        flips_with_a_threshold: both at A's; what calibrating B anew avoids, or costs.
        flips_with_b_threshold: both at B's. Both are None where the gates have different scores.
    """

    source: str
    images: int
    logits: Spread | None
    scores: dict[str, Spread]
    label_agreement: float | None
    flips: Flips
    flips_with_a_threshold: Flips | None
    flips_with_b_threshold: Flips | None

    def summary(self) -> Parity:
        """What a manifest keeps, A being fp32."""
        kept, own = self.flips_with_a_threshold, self.flips_with_b_threshold
        return Parity(
            source=self.source,
            images=self.images,
            label_agreement=self.label_agreement,
            mean_logit_difference=None if self.logits is None else self.logits.mean,
            max_logit_difference=None if self.logits is None else self.logits.max,
            newly_rejected=self.flips.newly_rejected,
            newly_accepted=self.flips.newly_accepted,
            flips_with_fp32_threshold=None if kept is None else kept.total,
            flips_with_own_threshold=None if own is None else own.total,
        )


def compare(source: str, a: Manifest, mine: Outputs, b: Manifest, others: Outputs) -> Difference:
    """The differences of two calibrated artifacts, from what they made of the same images.

    Raises:
        ExportError: an artifact that is not calibrated, or logits that are not finite.
    """
    gates = gate_of(a), gate_of(b)
    for manifest, outputs in ((a, mine), (b, others)):
        if not np.isfinite(outputs.logits).all():
            raise ExportError(
                f"{manifest.model.name} ({manifest.model.precision}): its logits of images of {source} are not finite"
            )
    shared = [name for name in a.scores if name in b.scores]
    columns = {name: (mine.scores[:, a.scores.index(name)], others.scores[:, b.scores.index(name)]) for name in shared}
    same = gates[0].score == gates[1].score and _selects(gates[0]) == _selects(gates[1]) and _made(a) == _made(b)
    own = _accept(a, mine, gates[0]), _accept(b, others, gates[1])
    return Difference(
        source=source,
        images=len(mine.scores),
        logits=_spread(mine.logits, others.logits) if a.labels else None,
        scores={name: _spread(*pair) for name, pair in columns.items()},
        label_agreement=float((predicted(mine.logits) == predicted(others.logits)).mean()) if a.labels else None,
        flips=_flips(*own),
        flips_with_a_threshold=_flips(own[0], _accept(b, others, gates[0])) if same else None,
        flips_with_b_threshold=_flips(_accept(a, mine, gates[1]), own[1]) if same else None,
    )


def _accept(manifest: Manifest, outputs: Outputs, gate: GateSpec) -> Flags:
    """What the artifact of `manifest` would accept at the threshold, or thresholds by class, of another's gate."""
    scores = np.where(outputs.scores > LOWEST, outputs.scores, np.float32(np.nan))  # as the graph output them
    return Rule(manifest.labels, manifest.scores, gate).accepts(outputs.logits, scores)


def _made(manifest: Manifest) -> tuple[object, object]:
    """What a gate's own columns are made with: p-values of merged scores, and the confidence's temperature."""
    return manifest.merged, manifest.score_parameters.get(CONFIDENCE)


def _selects(gate: GateSpec) -> str | None:
    return gate.max_error.score if gate.max_error else None


def _flips(mine: Flags, others: Flags) -> Flips:
    return Flips(int((mine & ~others).sum()), int((~mine & others).sum()))


def _spread(mine: npt.NDArray[np.float32], others: npt.NDArray[np.float32]) -> Spread:
    difference = np.abs(mine.astype(np.float64) - others)
    quantiles = tuple(np.quantile(difference, QUANTILES).tolist())
    return Spread(float(difference.mean()), float(difference.max()), quantiles)
