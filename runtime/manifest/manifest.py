"""The manifest itself, and its JSON."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass, field
from typing import Any

from runtime import schema
from runtime.manifest.calibration import Calibration
from runtime.manifest.confidence import Confidence
from runtime.manifest.data import DataSpec
from runtime.manifest.files import EngineSpec, FileEntry
from runtime.manifest.gate import GateSpec
from runtime.manifest.input import InputSpec
from runtime.manifest.merged import Merged
from runtime.manifest.model import ModelSpec, Task
from runtime.manifest.parity import Parity

SCHEMA_VERSION = 1

# A string, which stays as it is, or an innermost list of numbers, which an indented document keeps on one line.
_STRING_OR_NUMBERS = re.compile(r'"(?:[^"\\]|\\.)*"|\[[^\[\]{}"]*\]')


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
