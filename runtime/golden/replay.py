"""Golden images once more, stage by stage: which stage is the first that makes something else of one, and by how much."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from runtime.bundle import Bundle
from runtime.engines import selection
from runtime.engines.interface import Outputs
from runtime.engines.tolerance import Tolerance, difference, extent
from runtime.exceptions import ImageError
from runtime.gate import Gate
from runtime.golden.document import FOLDER, Golden, GoldenImage, digest
from runtime.manifest import Manifest
from runtime.preprocess import decoded, preprocess
from runtime.rule import Rule

Stage = Literal["decode", "resize", "network", "scores", "rule"]
STAGES: tuple[Stage, ...] = ("decode", "resize", "network", "scores", "rule")
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Fault:
    """The first stage of one golden image that is wrong.

    Attributes:
        file: of the image.
        stage: which.
        figures: what was found and what was expected, in words.
    """

    file: str
    stage: Stage
    figures: str

    def __str__(self) -> str:
        return f"{self.file} fails at {self.stage}: {self.figures}"


@dataclass(frozen=True)
class Report:
    """What a replay found.

    Attributes:
        on: the engine, or the service's address.
        images: how many.
        tolerance: what was allowed.
        logits: the largest difference as a share of their range; None where no logits are to be had.
        scores: the largest difference of each, as a share of its largest magnitude.
        faults: in the order of the images, at most one each.
        milliseconds: how long it took.
    """

    on: str
    images: int
    tolerance: Tolerance
    logits: float | None
    scores: dict[str, float]
    faults: tuple[Fault, ...]
    milliseconds: float

    def __str__(self) -> str:
        """One line."""
        logits = "" if self.logits is None else f"logits {self.logits:.1g} of their range, "
        found = f"{logits}scores {max(self.scores.values(), default=0.0):.1g} of theirs, at most"
        wrong = {stage: sum(fault.stage == stage for fault in self.faults) for stage in STAGES}
        failed = ", ".join(f"{count} at {stage}" for stage, count in wrong.items() if count)
        verdict = f"{self.images} golden images as expected"
        if failed:
            verdict = f"{len(self.faults)} of {self.images} golden images fail ({failed})"
        return f"{self.on}: {verdict}; {found}; {self.milliseconds:.0f} ms"

    def to_dict(self) -> dict[str, Any]:
        """As JSON; an infinite difference, of a number that is not finite, is null."""
        scores = {name: _finite(value) for name, value in self.scores.items()}
        return {"passed": not self.faults, **asdict(self), "logits": _finite(self.logits), "scores": scores}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


@dataclass(frozen=True)
class Expected:
    """What is expected of a network's outputs, and how far they may be off.

    Attributes:
        images: whose outputs.
        manifest: of the bundle, at its default operating point.
        allowed: by the engine.
        logits: float64 (N, K), NaN where a number is not finite; None for a model without.
        scores: float64 (N, S).
        unit: of the logits' differences.
        units: of the scores', (S,).
    """

    images: tuple[GoldenImage, ...]
    manifest: Manifest
    allowed: Tolerance
    logits: npt.NDArray[np.float64] | None
    scores: npt.NDArray[np.float64]
    unit: float
    units: npt.NDArray[np.float64]

    @classmethod
    def of(cls, golden: Golden, manifest: Manifest, allowed: Tolerance) -> Expected:
        logits = [image.logits for image in golden.images if image.logits is not None]
        known = np.array(logits, dtype=np.float64) if logits else None
        scores = np.array([list(image.scores.values()) for image in golden.images], dtype=np.float64)
        units = np.max(np.abs(scores), axis=0, initial=0.0, where=np.isfinite(scores))
        return cls(golden.images, manifest, allowed, known, scores, 0.0 if known is None else extent(known), units)

    def score_differences(self, scores: npt.NDArray[np.floating], row: int) -> dict[str, float]:
        """Of one image, by name."""
        return {
            name: difference(scores[i : i + 1], self.scores[row, i : i + 1], self.units[i])
            for i, name in enumerate(self.manifest.scores)
        }

    def scores_fault(self, scores: npt.NDArray[np.floating], row: int) -> str | None:
        """What is wrong with one image's scores (S,), in words."""
        found = self.score_differences(scores, row)
        worst = max(found, key=lambda name: found[name])
        if found[worst] <= self.allowed.scores:
            return None
        column = self.manifest.scores.index(worst)
        return (
            f"{worst} is {scores[column]:.6g}, expected {self.scores[row, column]:.6g}: {found[worst]:.2%} of its largest "
            f"value apart, {self.allowed.scores:.2%} is allowed"
        )

    def rule_fault(self, accepted: bool, label: str | None, row: int) -> str | None:
        """What is wrong with one image's decision, in words; nothing where the scores are at their thresholds."""
        image = self.images[row]
        found = "accept" if accepted else "reject"
        if (found, label) == (image.decision, image.label) or self._undecided(row):
            return None
        told, wanted = (
            f"{word} {name}" if name else word for word, name in ((found, label), (image.decision, image.label))
        )
        return f"{told}, expected {wanted}, of the same scores"

    def _undecided(self, row: int) -> bool:
        """Whether another decision may follow from what is within the tolerance."""
        rule, scores = Rule.of(self.manifest), self.scores[row]
        margins = [(rule.column, self._threshold(rule, row))]
        if rule.selects is not None:
            margins.append((rule.selects, float(rule.least)))
        close = any(abs(scores[i] - least) <= self.allowed.scores * max(self.units[i], 1e-6) for i, least in margins)
        if self.logits is None or close or self.logits.shape[1] < 2:
            return close
        second, first = np.sort(self.logits[row])[-2:]
        return bool(first - second <= 2 * self.allowed.logits * self.unit)

    def _threshold(self, rule: Rule, row: int) -> float:
        return float(rule.thresholds(np.array([self.images[row].class_index or 0]))[0])


def replay(gate: Gate, golden: Golden) -> Report:
    """Replay a bundle's golden images on the gate's engine.

    Args:
        gate: of the bundle.
        golden: its golden images.

    Raises:
        BundleError: a file is damaged.
        EngineError: the engine failed.
    """
    start = perf_counter()
    manifest = gate.bundle.manifest
    allowed = selection.allowed(manifest, gate.engine)
    expected = Expected.of(golden, manifest, allowed)
    pixels = [brought(gate.bundle, image) for image in golden.images]
    usable = [row for row, item in enumerate(pixels) if not isinstance(item, Fault)]
    faults = {row: item for row, item in enumerate(pixels) if isinstance(item, Fault)}
    logits, scores = (None if expected.logits is None else 0.0), dict.fromkeys(manifest.scores, 0.0)
    if usable:
        outputs = gate.engine.run(np.stack([item for item in pixels if not isinstance(item, Fault)]))
        if logits is not None:
            logits = _logits_difference(outputs, expected, usable)
        for i, row in enumerate(usable):
            found = expected.score_differences(outputs.scores[i], row)
            scores = {name: max(scores[name], found[name]) for name in scores}
        faults |= _output_faults(outputs, expected, usable)
    ordered = tuple(faults[row] for row in sorted(faults))
    taken = (perf_counter() - start) * 1000
    return Report(gate.engine.name, len(golden.images), allowed, logits, scores, ordered, taken)


def brought(bundle: Bundle, image: GoldenImage) -> Pixels | Fault:
    """A golden image at the model's size, decoded and resized here; or what went wrong."""
    data, spec = bundle.read(f"{FOLDER}/{image.file}"), bundle.manifest.input
    try:
        whole = decoded(data, spec)
    except ImageError as error:
        return Fault(image.file, "decode", str(error))
    if digest(whole) != image.decoded:
        found, wanted = (whole.shape[1], whole.shape[0]), (image.width, image.height)
        what = "of other colours" if found == wanted else f"expected {image.width} x {image.height}"
        size = f"{found[0]} x {found[1]} pixels"
        return Fault(image.file, "decode", f"{size}, {what} (SHA-256 {digest(whole)[:16]}..)")
    pixels = preprocess(data, spec)
    if digest(pixels) != image.pixels:
        grey = f"grey levels {_levels(pixels.mean(axis=(0, 1)))} in the mean, expected {_levels(image.mean)}"
        return Fault(image.file, "resize", f"other pixels, {grey}")
    return pixels


def _levels(mean: Iterable[float]) -> str:
    return " ".join(f"{level:.3f}" for level in mean)


def _logits_difference(outputs: Outputs, expected: Expected, rows: Sequence[int]) -> float:
    if expected.logits is None:
        return 0.0
    return difference(outputs.logits, expected.logits[list(rows)], expected.unit)


def _output_faults(outputs: Outputs, expected: Expected, rows: Sequence[int]) -> dict[int, Fault]:
    """Of the images at `rows`, in order, whose pixels are right."""
    rule = Rule.of(expected.manifest)
    accepts = rule.accepts(outputs.logits, outputs.scores) if outputs.accept is None else outputs.accept
    faults = {}
    for i, row in enumerate(rows):
        stage, figures = _output_fault(outputs, bool(accepts[i]), expected, i, row)
        if figures:
            faults[row] = Fault(expected.images[row].file, stage, figures)
    return faults


def _output_fault(outputs: Outputs, accepted: bool, expected: Expected, i: int, row: int) -> tuple[Stage, str | None]:
    if expected.logits is not None:
        found = difference(outputs.logits[i], expected.logits[row], expected.unit)
        if not found <= expected.allowed.logits:
            share = f"{found:.2%} of their range apart, {expected.allowed.logits:.3%} is allowed"
            return "network", f"logits are {share}"
    if figures := expected.scores_fault(outputs.scores[i], row):
        return "scores", figures
    labels = expected.manifest.labels
    label = labels[int(outputs.logits[i].argmax())] if labels and accepted else None
    return "rule", expected.rule_fault(accepted, label, row)
