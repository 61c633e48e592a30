"""oodgate's runtime: classify an image, or say that it is none of the model's business.

from runtime import Gate
gate = Gate.load("bundles/NAME")
for decision in gate.decide(["photo.jpg"]):
    print(decision.decision, decision.label, decision.score.p_value)
"""

import os

# Before anything loads ONNX Runtime, which otherwise looks a host up and writes a device's id; who sets it is heard.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from runtime.bundle import Bundle
from runtime.decision import Decision, GateScore, ModelRef, SelectionScore
from runtime.exceptions import (
    BundleError,
    BundleNotFound,
    CalibrationError,
    EmptyImage,
    EngineError,
    FileDamaged,
    GraphMismatch,
    ImageError,
    ImageTooLarge,
    ManifestInvalid,
    NotAnImage,
    NotCalibrated,
    OodgateError,
    UndecodableImage,
    UnknownOperatingPoint,
    UnsupportedImage,
)
from runtime.gate import Gate
from runtime.manifest import Manifest
from runtime.preprocess import Limits

__version__ = "0.1.0"

__all__ = [
    "Bundle",
    "BundleError",
    "BundleNotFound",
    "CalibrationError",
    "Decision",
    "EmptyImage",
    "EngineError",
    "FileDamaged",
    "Gate",
    "GateScore",
    "GraphMismatch",
    "ImageError",
    "ImageTooLarge",
    "Limits",
    "Manifest",
    "ManifestInvalid",
    "ModelRef",
    "NotAnImage",
    "NotCalibrated",
    "OodgateError",
    "SelectionScore",
    "UndecodableImage",
    "UnknownOperatingPoint",
    "UnsupportedImage",
]
