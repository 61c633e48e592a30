"""The manifest: what a bundle says of itself, as frozen dataclasses that read and write JSON."""

from runtime.manifest.calibration import Calibration, OrderStatistics
from runtime.manifest.confidence import Confidence
from runtime.manifest.data import DataSpec
from runtime.manifest.files import EngineSpec, FileEntry, NativeRuntime
from runtime.manifest.gate import Choice, ClassPoint, GateSpec, OperatingPoint
from runtime.manifest.input import InputSpec, Interpolation, Resize
from runtime.manifest.manifest import SCHEMA_VERSION, Manifest
from runtime.manifest.merged import Merged, MergeMethod, PValueCurve
from runtime.manifest.model import ModelSpec, Precision, Task
from runtime.manifest.parity import Parity

__all__ = [
    "SCHEMA_VERSION",
    "Calibration",
    "Choice",
    "ClassPoint",
    "Confidence",
    "DataSpec",
    "EngineSpec",
    "FileEntry",
    "GateSpec",
    "InputSpec",
    "Interpolation",
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
    "Resize",
    "Task",
]
