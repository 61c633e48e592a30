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

SCHEMA_VERSION = 1

_FLOAT32_MAX = 3.4028234663852886e38

# A string, which stays as it is, or an innermost list of numbers, which an indented document keeps on one line.
_STRING_OR_NUMBERS = re.compile(r'"(?:[^"\\]|\\.)*"|\[[^\[\]{}"]*\]')

Resize = Literal["center", "squash", "border"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
Task = Literal["multiclass", "multilabel"]


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
    """

    name: str
    arch: str
    method: str
    parameters: int
    features: int


@dataclass(frozen=True)
class GateSpec:
    """The decision rule: accept when ``score >= threshold``.

    Attributes:
        score: the key of the gate's score, one of the manifest's `scores`.
        threshold: float32-representable, in the units of the score.
        alpha: the bound on the probability that an in-distribution image is rejected.
        tpr_target: ``1 - alpha``.
        n_calibration: number of calibration images.
        tpr_interval: central 95 % interval of the acceptance rate realised on in-distribution images, over
            draws of the calibration set (:func:`export.calibration.tpr_interval`).
    """

    score: str
    threshold: float
    alpha: float
    tpr_target: float
    n_calibration: int
    tpr_interval: tuple[float, float]

    def __post_init__(self) -> None:
        if not abs(self.threshold) <= _FLOAT32_MAX:
            raise ValueError(f"threshold must be a finite float32, found {self.threshold}")
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha must be in (0, 1), found {self.alpha}")


@dataclass(frozen=True)
class Calibration:
    """Order statistics of every score on the calibration images.

    Attributes:
        n: number of calibration images.
        ranks: 1-based ranks of the stored order statistics, ascending, ending with n; every rank up to n where
            n is small enough.
        quantiles: for each score, the order statistics at `ranks`, ascending, as the shortest decimals that read
            back as the same float32.
    """

    n: int
    ranks: tuple[int, ...]
    quantiles: dict[str, tuple[float, ...]]

    def __post_init__(self) -> None:
        if not self.ranks or self.ranks[-1] != self.n or any(b <= a for a, b in pairwise((0, *self.ranks))):
            raise ValueError(f"ranks must ascend from at least 1 and end with n = {self.n}")
        for score, values in self.quantiles.items():
            ascending = all(a <= b for a, b in pairwise(values))
            if len(values) != len(self.ranks) or not ascending or not all(map(math.isfinite, values)):
                raise ValueError(f"quantiles of {score} must be {len(self.ranks)} finite ascending numbers")


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
class FileEntry:
    """A file of the bundle as it was written."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """Everything a runtime needs to know of a bundle.

    Attributes:
        task: ``multiclass`` (softmax) or ``multilabel`` (one sigmoid a label).
        labels: K class names, in the order of the logits.
        scores: the columns of the graph's `scores` output, in order.
        score_parameters: what a score's formula was parametrised with, such as ``{"energy": {"temperature": 1.0}}``.
        gate, calibration: None until the bundle is calibrated.
        data: the sets that it was made with, by what for: ``calibration``, ``fit``. Evaluation refuses their images.
        provenance: package versions, training metrics, verification figures; for people, not read by the runtime.
        files: name relative to the bundle -> size and hash. Empty in the copy inside the graph, which can't
            hold its own hash.
    """

    model: ModelSpec
    task: Task
    labels: tuple[str, ...]
    input: InputSpec
    scores: tuple[str, ...]
    score_parameters: dict[str, dict[str, float]] = field(default_factory=dict)
    gate: GateSpec | None = None
    calibration: Calibration | None = None
    data: dict[str, DataSpec] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    files: dict[str, FileEntry] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        for name, values in (("labels", self.labels), ("scores", self.scores)):
            if not values or len(set(values)) != len(values):
                raise ValueError(f"{name} must be distinct and at least one, found {list(values)}")
        for name in self.files:
            if not name or name.startswith("/") or ".." in name.split("/") or "\0" in name or "\\" in name:
                raise ValueError(f"files: {name!r} is not a file inside the bundle")
        if (self.gate is None) != (self.calibration is None):
            raise ValueError("gate and calibration must be given together")
        if self.gate and self.calibration and self.gate.n_calibration != self.calibration.n:
            raise ValueError(f"gate.n_calibration is {self.gate.n_calibration}, calibration.n is {self.calibration.n}")
        if self.gate and self.gate.score not in self.scores:
            raise ValueError(f"gate.score is {self.gate.score!r}, not one of the scores {list(self.scores)}")
        if self.calibration and set(self.calibration.quantiles) != set(self.scores):
            raise ValueError(f"calibration.quantiles must have the scores {list(self.scores)}")

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
