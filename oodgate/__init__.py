"""oodgate: classify an image, or say that it is none of the model's business.

from oodgate import Gate
gate = Gate.load("bundles/NAME")
for decision in gate.decide(["photo.jpg"]):
    print(decision.decision, decision.label, decision.score.p_value)

A facade: every name lives in one of the other packages and is loaded when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING

# Where each public name lives: module -> names. A name is added here, and to the imports below, which type checkers read.
_HOMES: dict[str, tuple[str, ...]] = {
    "runtime": (
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
        "__version__",
    ),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [name for name in _HOME if name != "__version__"]

if TYPE_CHECKING:
    from runtime import *  # noqa: F403
    from runtime import __version__ as __version__
else:  # unseen by type checkers, which would then take any name

    def __getattr__(name: str) -> object:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value: object = getattr(import_module(_HOME[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
