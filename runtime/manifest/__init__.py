"""The manifest: what a bundle says of itself, as frozen dataclasses that read and write JSON."""

from runtime.manifest.calibration import Calibration, OrderStatistics
from runtime.manifest.gate import (
    Choice,
    ClassPoint,
    Confidence,
    GateSpec,
    Guarantee,
    Merged,
    MergeMethod,
    OperatingPoint,
    Parity,
    PValueCurve,
)
from runtime.manifest.input import Channels, Colour, Corner, InputSpec, Interpolation, Resampler, Resize
from runtime.manifest.labelled import ErrorBound, LabelSet, Selection
from runtime.manifest.manifest import (
    SCHEMA_VERSION,
    DataSpec,
    EngineSpec,
    FileEntry,
    Manifest,
    ModelSpec,
    NativeRuntime,
    Precision,
    Task,
)

__all__ = [
    "SCHEMA_VERSION",
    "Calibration",
    "Channels",
    "Choice",
    "ClassPoint",
    "Colour",
    "Confidence",
    "Corner",
    "DataSpec",
    "EngineSpec",
    "ErrorBound",
    "FileEntry",
    "GateSpec",
    "Guarantee",
    "InputSpec",
    "Interpolation",
    "LabelSet",
    "Manifest",
    "MergeMethod",
    "Merged",
    "ModelSpec",
    "NativeRuntime",
    "OperatingPoint",
    "OrderStatistics",
    "PValueCurve",
    "Parity",
    "Precision",
    "Resampler",
    "Resize",
    "Selection",
    "Task",
]
