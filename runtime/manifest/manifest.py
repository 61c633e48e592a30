"""The manifest: what a bundle says of itself, and its JSON."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from dataclasses import dataclass, field
from typing import Any, Literal

from runtime import schema
from runtime.manifest.calibration import Calibration
from runtime.manifest.gate import Confidence, GateSpec, Merged, Parity
from runtime.manifest.input import InputSpec

SCHEMA_VERSION = 1

# A string, which stays as it is, or an innermost list of numbers, which an indented document keeps on one line.
_STRING_OR_NUMBERS = re.compile(r'"(?:[^"\\]|\\.)*"|\[[^\[\]{}"]*\]')

Task = Literal["multiclass", "multilabel", "unlabelled"]
Precision = Literal["fp32", "bf16", "fp16", "int8"]
Calibrator = Literal["onnxruntime-cpu", "openvino"]
NativeRuntime = Literal["tensorrt", "tensorrt-rtx"]


@dataclass(frozen=True)
class Numerics:
    """What computed the scores that the gate was calibrated on.

    Attributes:
        engine: its name.
        precision: of the layers before the penultimate activations, as it computed them.
        machine_flags: those of the CPU that numerics depend on, as Linux calls them, such as ``avx2`` or ``amx_bf16``.
    """

    engine: Calibrator
    precision: Precision
    machine_flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelSpec:
    """Which network it is.

    Attributes:
        name: what decisions and metrics call it.
        arch, method: the architecture and the training method.
        parameters: number of learned weights.
        features: D, the width of the penultimate layer.
        precision: of the layers before the penultimate activations; scores and gate are always fp32. For ``bf16`` the graph
            is that of fp32, and the engine computes it in bf16.
        numerics: None where the bundle is not calibrated, or was before this was recorded: on ``onnxruntime-cpu``.
    """

    name: str
    arch: str
    method: str
    parameters: int
    features: int
    precision: Precision = "fp32"
    numerics: Numerics | None = None

    def __post_init__(self) -> None:
        if self.numerics and self.numerics.precision != self.precision:
            raise ValueError(f"numerics.precision is {self.numerics.precision}, and precision {self.precision}")
        if self.numerics and (self.numerics.engine == "openvino") != (self.precision == "bf16"):
            raise ValueError(f"numerics.engine is {self.numerics.engine}, which calibrates no {self.precision}")


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
        precision: of the graph that it was built from.
        batches: the smallest batch that it takes, the one it was optimised for, and the largest.
        model: SHA-256 of the model.onnx that it was built from.
        kernels: number of its layers after fusion; each is a kernel or a library call.
        head_kernels: how many of them compute scores and the decision.
    """

    runtime: NativeRuntime
    release: str
    targets: tuple[int, ...]
    precision: Precision
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
class DataSpec:
    """A set of images that the bundle was made with.

    Attributes:
        source, images: which, and how many.
        sketch: base64 of little-endian uint64: the smallest hashes of the images' pixels (:mod:`train.data.sketches`);
            none where `looks` alone tell.
        looks: base64 of the smallest hashes of what the images look like, packed; empty where an earlier version made it.
    """

    source: str
    images: int
    sketch: str
    looks: str = ""

    def __post_init__(self) -> None:
        if (size := _decoded_size(self.sketch)) is None or size % 8:
            raise ValueError("sketch must be base64 of 64-bit hashes")
        if _decoded_size(self.looks) is None:
            raise ValueError("looks must be base64")


@dataclass(frozen=True)
class Manifest:
    """Everything a runtime needs to know of a bundle.

    Attributes:
        task: ``multiclass`` (softmax), ``multilabel`` (one sigmoid a label), or ``unlabelled``: features without classes.
        labels: K class names, in the order of the logits; none for ``unlabelled``, whose graph has no logits.
        scores: the columns of the graph's `scores` output, in order.
        score_parameters: what a score's formula was parametrised with, such as ``{"energy": {"temperature": 1.0}}``.
        merged: for each score that is made of others, how; its key names them, joined by ``+``.
        gate: the decision rule and its calibration; None until the bundle is calibrated.
        confidence: None where the reported probabilities are the model's own.
        parity: None for an fp32 bundle, and where nothing was compared. What it tells of decisions is of this very gate.
        data: the sets that it was made with, by what for: ``training``, ``auxiliary``, ``calibration``, ``fit, knn``,
            ``quantisation``. Evaluation refuses their images, and calibration those that were learned from.
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
    confidence: Confidence | None = None
    parity: Parity | None = None
    data: dict[str, DataSpec] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    files: dict[str, FileEntry] = field(default_factory=dict)
    engines: dict[str, EngineSpec] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if self.task == "unlabelled" and (self.labels or self.confidence):
            raise ValueError(f"labels and confidence: a model that is unlabelled has none, found {list(self.labels)}")
        for name, values in (("labels", self.labels), ("scores", self.scores)):
            if name == "labels" and self.task == "unlabelled":
                continue
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
        if self.gate:
            self._check_gate(self.gate)

    def _check_gate(self, gate: GateSpec) -> None:
        if gate.score not in self.scores:
            raise ValueError(f"gate.score is {gate.score!r}, not one of the scores {list(self.scores)}")
        if set(gate.calibration.quantiles) != set(self.scores):
            raise ValueError(f"calibration.quantiles must have the scores {list(self.scores)}")
        if gate.max_error and gate.max_error.score not in self.scores:
            raise ValueError(f"gate.max_error.score is {gate.max_error.score!r}, not one of {list(self.scores)}")
        if self.task != "multiclass" and (gate.max_error or any(point.sets for point in gate.points)):
            raise ValueError("gate: max_error and sets are for models of one label an image")
        if self.task == "unlabelled" and gate.class_conditional:
            raise ValueError("gate: class_conditional is for models with classes")
        for point in gate.points:
            for label, own in point.classes.items():
                if label not in self.labels:
                    raise ValueError(f"gate.classes: {label!r} is not one of the labels")
                known = gate.calibration.classes
                if label not in known or known[label].n != own.n:
                    raise ValueError(f"calibration.classes must have the {own.n} images of {label!r}")

    @property
    def embedded(self) -> Manifest:
        """The copy inside the graph: all but `files` and `engines`, which are made from it."""
        return dataclasses.replace(self, files={}, engines={})

    def to_dict(self) -> dict[str, Any]:
        """The JSON document, in which the gate's calibration stands beside the gate, and what it promises in it."""
        document: dict[str, Any] = {"schema_version": self.schema_version}
        for name, value in dataclasses.asdict(self).items():
            document[name] = value
            if name == "gate":
                document["calibration"] = value.pop("calibration") if value else None
                if self.gate:
                    value["promise"] = self.gate.promise
        return document

    def to_json(self, *, indent: int | None = None) -> str:
        """The manifest as JSON text; numbers survive the round trip exactly."""
        text = json.dumps(self.to_dict(), indent=indent, allow_nan=False)
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
        try:
            return cls._from_document(document)
        except schema.OtherFields as error:
            raise ValueError(f"{error}; another version wrote this: export the bundle again") from error

    @classmethod
    def _from_document(cls, document: dict[str, Any]) -> Manifest:
        gate, calibration = document.get("gate"), document.pop("calibration", None)
        if (gate is None) != (calibration is None):
            raise ValueError("gate and calibration must be given together")
        if isinstance(gate, dict):
            if "calibration" in gate:
                raise ValueError("gate.calibration: unknown field; calibration stands beside the gate")
            own = {name: value for name, value in gate.items() if name != "promise"}  # which follows from the rest
            document["gate"] = {**own, "calibration": schema.build(Calibration, calibration, "calibration")}
        return schema.build(cls, document)


def _decoded_size(text: str) -> int | None:
    """How many bytes base64 stands for; None for text that is none."""
    try:
        return len(base64.b64decode(text, validate=True))
    except ValueError:
        return None
