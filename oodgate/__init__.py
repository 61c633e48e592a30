"""oodgate: classify an image, or say that it is none of the model's business.

from oodgate import Gate
gate = Gate.load("bundles/NAME")
for decision in gate.decide(["photo.jpg"]):
    print(decision.decision, decision.label, decision.score.p_value)

`export`, `calibrate` and `evaluate` make a bundle of a model in memory, calibrate and evaluate it; `Client` asks a service.

A facade: every name lives in one of the other packages and is loaded when it is first asked for.
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from oodgate import beside

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
    "runtime.manifest": ("InputSpec",),
    "export.facade": ("calibrate", "evaluate", "export"),
    "serving.client": ("Client",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [name for name in _HOME if name != "__version__"]

if TYPE_CHECKING:
    from export.facade import calibrate as calibrate
    from export.facade import evaluate as evaluate
    from export.facade import export as export
    from runtime import *  # noqa: F403
    from runtime import __version__ as __version__
    from runtime.manifest import InputSpec as InputSpec
    from serving.client import Client as Client
else:  # unseen by type checkers, which would then take any name

    def __getattr__(name: str) -> object:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value: object = getattr(_home(name), name)
        globals()[name] = value
        return value


def _home(name: str) -> ModuleType:
    """The module of a name; what lives in the runtime needs no more than that is there."""
    module = _HOME[name]
    package = module.partition(".")[0]  # as its extra is called
    if package == "runtime":
        return import_module(module)
    beside.check()
    beside.prefer()
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in {"", "oodgate", *beside.PACKAGES}:
            raise
        remedy = f"oodgate.{name} needs {missing}, which is not installed: pip install 'oodgate[{package}]'"
        raise ModuleNotFoundError(remedy, name=missing) from error


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
