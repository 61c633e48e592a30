"""The manifest: what a bundle says of itself, as frozen dataclasses that read and write JSON."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from runtime import schema
from runtime.exceptions import UnknownOperatingPoint

SCHEMA_VERSION = 1

_FLOAT32_MAX = 3.4028234663852886e38

# A string, which stays as it is, or an innermost list of numbers, which an indented document keeps on one line.
_STRING_OR_NUMBERS = re.compile(r'"(?:[^"\\]|\\.)*"|\[[^\[\]{}"]*\]')

Resize = Literal["center", "squash", "border"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
Task = Literal["multiclass", "multilabel"]
MergeMethod = Literal["min", "harmonic"]
Precision = Literal["fp32", "fp16", "int8"]
NativeRuntime = Literal["tensorrt", "tensorrt-rtx"]


@dataclass(frozen=True)
class InputSpec:
    """How an image becomes the model's input.

    Attributes:
        height, width: the graph's image size in pixels.
        mean, std: per RGB channel, of pixels scaled to [0, 1]; applied inside the graph as ``(x / 255 - mean) / std``.
        resize: ``center`` (largest centred box), ``squash`` (stretch) or ``border`` (fit, pad with white).
        crop_fraction: with ``center``, the share of the box's side that is kept; 0.875 is the ImageNet habit
            "resize to 256, crop 224".
        interpolation: Pillow's antialiased resampling filter.
    """

    height: int
    width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: Resize = "center"
    crop_fraction: float = 1.0
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(f"input size must be positive, found {self.height} x {self.width}")
        if not 0 < self.crop_fraction <= 1:
            raise ValueError(f"crop_fraction must be in (0, 1], found {self.crop_fraction}")
        if not all(map(math.isfinite, self.mean + self.std)) or min(self.std) <= 0:
            raise ValueError(f"mean must be finite and std positive, found {self.mean} and {self.std}")


@dataclass(frozen=True)
class ModelSpec:
    """Which network it is.

    Attributes:
        name: what decisions and metrics call it.
        arch, method: the architecture and the training method.
        parameters: number of learned weights.
        features: D, the width of the penultimate layer.
        precision: of the layers before the penultimate activations; normalisation, scores and gate are always fp32.
    """

    name: str
    arch: str
    method: str
    parameters: int
    features: int
    precision: Precision = "fp32"


@dataclass(frozen=True)
class ClassPoint:
    """The threshold of the images predicted as one class, and what it promises for these.

    Attributes:
        n: number of calibration images predicted as this class.
        threshold, tpr_interval, max_rejection: as in :class:`OperatingPoint`, for images predicted as this class.
    """

    n: int
    threshold: float
    tpr_interval: tuple[float, float]
    max_rejection: float

    def __post_init__(self) -> None:
        _check_point(self.threshold, self.tpr_interval, self.max_rejection)


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold, and what it promises.

    Attributes:
        alpha: the bound on the probability that an in-distribution image is rejected.
        threshold: float32-representable, in the units of the score.
        tpr_interval: central 95 % interval of the acceptance rate that `threshold` realises on in-distribution images,
            over draws of the calibration set (:func:`export.calibration.tpr_interval`).
        max_rejection: the largest rejection rate of in-distribution images compatible with the calibration set at
            95 % (:func:`export.calibration.max_rejection`).
        classes: for a class-conditional gate, the thresholds of the predicted classes, by label. A class that is
            missing had too few calibration images for `alpha` and falls back to `threshold`.
    """

    alpha: float
    threshold: float
    tpr_interval: tuple[float, float]
    max_rejection: float
    classes: dict[str, ClassPoint] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_point(self.threshold, self.tpr_interval, self.max_rejection)
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha must be in (0, 1), found {self.alpha}")


@dataclass(frozen=True)
class Choice:
    """How the gate's score was chosen: by AUROC against outliers, on images that did not set the threshold.

    Attributes:
        n: number of in-distribution images that chose.
        outliers: number of images of each outlier set.
        auroc: for each outlier set, each score's AUROC; their mean over the sets chose.
        temperatures: for each temperature of the energy score, its mean AUROC over the sets; empty where the
            temperature was given.
    """

    n: int
    outliers: dict[str, int]
    auroc: dict[str, dict[str, float]]
    temperatures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class GateSpec:
    """The decision rule: accept when ``score >= threshold``, the threshold of the predicted class if it has its own.

    Attributes:
        score: the key of the gate's score, one of the manifest's `scores`.
        threshold, alpha, tpr_interval, max_rejection, classes: the operating point in use, as in
            :class:`OperatingPoint`.
        tpr_target: ``1 - alpha``.
        n_calibration: number of calibration images.
        class_conditional: whether predicted classes have thresholds of their own.
        operating_points: the others that are stored, by ascending alpha; :meth:`at` changes to one.
        choice: how the score was chosen; None where it was given.
    """

    score: str
    threshold: float
    alpha: float
    tpr_target: float
    n_calibration: int
    tpr_interval: tuple[float, float]
    max_rejection: float
    classes: dict[str, ClassPoint] = field(default_factory=dict)
    class_conditional: bool = False
    operating_points: tuple[OperatingPoint, ...] = ()
    choice: Choice | None = None

    def __post_init__(self) -> None:
        if len(set(self.alphas)) != len(self.alphas):
            raise ValueError(f"operating_points must differ from each other and from alpha, found {list(self.alphas)}")
        if not self.class_conditional and any(point.classes for point in self.points):
            raise ValueError("classes must be empty where class_conditional is false")

    @property
    def points(self) -> tuple[OperatingPoint, ...]:
        """All operating points, by ascending alpha."""
        own = OperatingPoint(self.alpha, self.threshold, self.tpr_interval, self.max_rejection, self.classes)
        return tuple(sorted((own, *self.operating_points), key=lambda point: point.alpha))

    @property
    def alphas(self) -> tuple[float, ...]:
        """The alphas of all operating points, ascending."""
        return tuple(point.alpha for point in self.points)

    def at(self, alpha: float) -> GateSpec:
        """The same gate at another of its operating points.

        Raises:
            UnknownOperatingPoint: `alpha` is not one of :attr:`alphas`.
        """
        chosen = [point for point in self.points if point.alpha == alpha]
        if not chosen:
            stored = ", ".join(f"{stored:g}" for stored in self.alphas)
            raise UnknownOperatingPoint(
                f"no operating point for alpha = {alpha:g}; stored are {stored}. Calibrate again for another"
            )
        return dataclasses.replace(
            self,
            **{field.name: getattr(chosen[0], field.name) for field in dataclasses.fields(OperatingPoint)},
            tpr_target=1 - alpha,
            operating_points=tuple(point for point in self.points if point.alpha != alpha),
        )


@dataclass(frozen=True)
class OrderStatistics:
    """Order statistics of the gate's score on the calibration images predicted as one class.

    Attributes:
        n, ranks: as in :class:`Calibration`.
        quantiles: the order statistics at `ranks`.
    """

    n: int
    ranks: tuple[int, ...]
    quantiles: tuple[float, ...]

    def __post_init__(self) -> None:
        _check_ranks(self.n, self.ranks)
        _check_quantiles("quantiles", self.ranks, self.quantiles)


@dataclass(frozen=True)
class Calibration:
    """Order statistics of every score on the calibration images.

    Attributes:
        n: number of calibration images.
        ranks: 1-based ranks of the stored order statistics, ascending, ending with n; every rank up to n where
            n is small enough, and that of every threshold.
        quantiles: for each score, the order statistics at `ranks`, ascending, as the shortest decimals that read
            back as the same float32.
        classes: the same for each predicted class with a threshold of its own, by label.
    """

    n: int
    ranks: tuple[int, ...]
    quantiles: dict[str, tuple[float, ...]]
    classes: dict[str, OrderStatistics] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_ranks(self.n, self.ranks)
        for score, values in self.quantiles.items():
            _check_quantiles(f"quantiles of {score}", self.ranks, values)


@dataclass(frozen=True)
class PValueCurve:
    """A score's p-value as a continuous, increasing function of the score (:func:`runtime.merge.p_values`).

    Attributes:
        knots: scores, strictly ascending.
        heights: the p-values at the knots, ascending, in (0, 1].
        tail: the distance below the first knot at which the p-value is half of the first height.
    """

    knots: tuple[float, ...]
    heights: tuple[float, ...]
    tail: float

    def __post_init__(self) -> None:
        ascending = all(a < b for values in (self.knots, self.heights) for a, b in pairwise(values))
        if not self.knots or len(self.knots) != len(self.heights) or not ascending:
            raise ValueError("knots and heights must ascend, and be as many")
        if not all(map(math.isfinite, self.knots)) or not 0 < self.heights[0] <= self.heights[-1] <= 1:
            raise ValueError("knots must be finite, and heights in (0, 1]")
        if not 0 < self.tail <= _FLOAT32_MAX:
            raise ValueError(f"tail must be positive, found {self.tail}")


@dataclass(frozen=True)
class Merged:
    """A score made of others: their p-values, merged (:func:`runtime.merge.merge`).

    Attributes:
        method: ``min`` or ``harmonic``.
        n: number of in-distribution images behind the curves; none of them set the threshold.
        parts: the p-value curve of each score that is merged.
    """

    method: MergeMethod
    n: int
    parts: dict[str, PValueCurve]


@dataclass(frozen=True)
class Confidence:
    """How the reported confidence was calibrated.

    Attributes:
        temperature: T of the reported probabilities, softmax(f / T) or sigmoid(f / T).
        n: number of labelled images that it was fitted on.
        ece_before, ece_after: expected calibration error on these images, with 15 bins
            (:func:`export.confidence.expected_calibration_error`), at T = 1 and at `temperature`.
    """

    temperature: float
    n: int
    ece_before: float
    ece_after: float

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature must be positive, found {self.temperature}")


def _check_point(threshold: float, tpr_interval: tuple[float, float], max_rejection: float) -> None:
    if not abs(threshold) <= _FLOAT32_MAX:
        raise ValueError(f"threshold must be a finite float32, found {threshold}")
    if not 0 <= tpr_interval[0] <= tpr_interval[1] <= 1:
        raise ValueError(f"tpr_interval must ascend within [0, 1], found {list(tpr_interval)}")
    if not 0 <= max_rejection <= 1:
        raise ValueError(f"max_rejection must be in [0, 1], found {max_rejection}")


def _check_ranks(n: int, ranks: tuple[int, ...]) -> None:
    if not ranks or ranks[-1] != n or any(b <= a for a, b in pairwise((0, *ranks))):
        raise ValueError(f"ranks must ascend from at least 1 and end with n = {n}")


def _check_quantiles(name: str, ranks: tuple[int, ...], values: tuple[float, ...]) -> None:
    ascending = all(a <= b for a, b in pairwise(values))
    if len(values) != len(ranks) or not ascending or not all(map(math.isfinite, values)):
        raise ValueError(f"{name} must be {len(ranks)} finite ascending numbers")


@dataclass(frozen=True)
class DataSpec:
    """A set of images that the bundle was made with.

    Attributes:
        source, images: which, and how many.
        sketch: base64 of little-endian uint64: the smallest hashes of the images' pixels (:mod:`export.leakage`).
    """

    source: str
    images: int
    sketch: str

    def __post_init__(self) -> None:
        try:
            size = len(base64.b64decode(self.sketch, validate=True))
        except ValueError:
            size = -1
        if size < 0 or size % 8:
            raise ValueError("sketch must be base64 of 64-bit hashes")


@dataclass(frozen=True)
class Parity:
    """How a bundle of another precision differs from the fp32 one it was made of, on the images of its calibration.

    Attributes:
        source, images: which, and how many.
        label_agreement: share of images that both predict as the same class.
        mean_logit_difference, max_logit_difference: of the absolute differences of all logits.
        newly_rejected, newly_accepted: images whose decision differs, each bundle at its own threshold.
        flips_with_fp32_threshold: images whose decision would differ, had the threshold of the fp32 bundle been kept; None
            where the two gates have different scores.
    """

    source: str
    images: int
    label_agreement: float
    mean_logit_difference: float
    max_logit_difference: float
    newly_rejected: int
    newly_accepted: int
    flips_with_fp32_threshold: int | None


@dataclass(frozen=True)
class FileEntry:
    """A file of the bundle as it was written."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class EngineSpec:
    """An engine that was built from the bundle's graph.

    Attributes:
        runtime: what runs it.
        release: of the runtime that built it.
        targets: the compute capabilities that it was built for, 89 for 8.9.
        version_compatible: whether later releases of the runtime run it too.
        hardware_compatible: whether it runs on any GPU of Ampere or later, and not on `targets` alone.
        precision: of the backbone's arithmetic: ``fp32``, ``fp16`` or ``int8``.
        batches: the smallest batch that it takes, the one it was optimised for, and the largest.
        model: SHA-256 of the model.onnx that it was built from.
        kernels: number of its layers after fusion; each is a kernel or a library call.
        head_kernels: how many of them compute scores and the decision.
    """

    runtime: NativeRuntime
    release: str
    targets: tuple[int, ...]
    precision: str
    batches: tuple[int, int, int]
    model: str
    kernels: int
    head_kernels: int
    version_compatible: bool = False
    hardware_compatible: bool = False

    def __post_init__(self) -> None:
        if not self.targets or min(self.targets) < 1:
            raise ValueError(f"targets must be compute capabilities, found {list(self.targets)}")
        if not 1 <= self.batches[0] <= self.batches[1] <= self.batches[2]:
            raise ValueError(f"batches must ascend from at least 1, found {list(self.batches)}")


@dataclass(frozen=True)
class Manifest:
    """Everything a runtime needs to know of a bundle.

    Attributes:
        task: ``multiclass`` (softmax) or ``multilabel`` (one sigmoid a label).
        labels: K class names, in the order of the logits.
        scores: the columns of the graph's `scores` output, in order.
        score_parameters: what a score's formula was parametrised with, such as ``{"energy": {"temperature": 1.0}}``.
        merged: for each score that is made of others, how; its key names them, joined by ``+``.
        gate, calibration: None until the bundle is calibrated.
        confidence: None where the reported probabilities are the model's own.
        parity: None for an fp32 bundle, and once another gate was calibrated than the one it tells of.
        data: the sets that it was made with, by what for: ``calibration``, ``fit, knn``, ``quantisation``. Evaluation refuses
            their images.
        provenance: package versions, training metrics, verification figures; for people, not read by the runtime.
        files: name relative to the bundle -> size and hash. Empty in the copy inside the graph, which can't
            hold its own hash.
        engines: those of `files` that are engines built from the graph. Empty in the copy inside the graph too.
    """

    model: ModelSpec
    task: Task
    labels: tuple[str, ...]
    input: InputSpec
    scores: tuple[str, ...]
    score_parameters: dict[str, dict[str, float]] = field(default_factory=dict)
    merged: dict[str, Merged] = field(default_factory=dict)
    gate: GateSpec | None = None
    calibration: Calibration | None = None
    confidence: Confidence | None = None
    parity: Parity | None = None
    data: dict[str, DataSpec] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    files: dict[str, FileEntry] = field(default_factory=dict)
    engines: dict[str, EngineSpec] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        for name, values in (("labels", self.labels), ("scores", self.scores)):
            if not values or len(set(values)) != len(values):
                raise ValueError(f"{name} must be distinct and at least one, found {list(values)}")
        for name in self.files:
            if not name or name.startswith("/") or ".." in name.split("/") or "\0" in name or "\\" in name:
                raise ValueError(f"files: {name!r} is not a file inside the bundle")
        if unlisted := sorted(self.engines.keys() - self.files.keys()):
            raise ValueError(f"engines: {unlisted[0]!r} is not one of the files")
        for name, merged in self.merged.items():
            if name not in self.scores or name != "+".join(merged.parts) or set(merged.parts) - set(self.scores):
                raise ValueError(f"merged: {name!r} and what it is made of must be scores, of {list(self.scores)}")
        if (self.gate is None) != (self.calibration is None):
            raise ValueError("gate and calibration must be given together")
        if self.gate and self.calibration:
            self._check_gate(self.gate, self.calibration)

    def _check_gate(self, gate: GateSpec, calibration: Calibration) -> None:
        if gate.n_calibration != calibration.n:
            raise ValueError(f"gate.n_calibration is {gate.n_calibration}, calibration.n is {calibration.n}")
        if gate.score not in self.scores:
            raise ValueError(f"gate.score is {gate.score!r}, not one of the scores {list(self.scores)}")
        if set(calibration.quantiles) != set(self.scores):
            raise ValueError(f"calibration.quantiles must have the scores {list(self.scores)}")
        for point in gate.points:
            for label, own in point.classes.items():
                if label not in self.labels:
                    raise ValueError(f"gate.classes: {label!r} is not one of the labels")
                if label not in calibration.classes or calibration.classes[label].n != own.n:
                    raise ValueError(f"calibration.classes must have the {own.n} images of {label!r}")

    @property
    def embedded(self) -> Manifest:
        """The copy inside the graph: all but `files` and `engines`, which are made from it."""
        return dataclasses.replace(self, files={}, engines={})

    def to_json(self, *, indent: int | None = None) -> str:
        """The manifest as JSON text; numbers survive the round trip exactly."""
        document = {"schema_version": self.schema_version, **dataclasses.asdict(self)}
        text = json.dumps(document, indent=indent, allow_nan=False)
        if not indent:
            return text
        return _STRING_OR_NUMBERS.sub(lambda m: m[0] if m[0].startswith('"') else " ".join(m[0].split()), text)

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """Read and validate.

        Raises:
            ValueError: naming the field, what was expected and what was found.
        """
        try:
            document = json.loads(text)
        except RecursionError:
            raise ValueError("nested too deeply to be a manifest") from None
        if not isinstance(document, dict):
            raise ValueError(f"expected a JSON object, found {type(document).__name__}")
        version = document.get("schema_version")
        if version != SCHEMA_VERSION:
            raise ValueError(f"schema_version: expected {SCHEMA_VERSION}, found {version!r}; export the bundle again")
        return schema.build(cls, document)
