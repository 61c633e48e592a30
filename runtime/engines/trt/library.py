"""TensorRT's Python module, or TensorRT-RTX's: two libraries with nearly the same interface."""

from __future__ import annotations

import importlib
from typing import Any

from runtime.exceptions import EngineError
from runtime.manifest import EngineSpec, NativeRuntime

# Modules to try, and what to say where there is none. PyPI's `tensorrt` fetches its libraries from elsewhere, and without
# them is a module with nothing in it.
_MODULES: dict[NativeRuntime, tuple[str, ...]] = {
    "tensorrt": ("tensorrt", "tensorrt_bindings"),
    "tensorrt-rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings"),
}
_INSTALL: dict[NativeRuntime, str] = {
    "tensorrt": "install TensorRT with its Python module (on Jetson it comes with JetPack: python3-libnvinfer)",
    "tensorrt-rtx": "pip install tensorrt-rtx-cu13-libs tensorrt-rtx-cu13-bindings",
}


def load_library(runtime: NativeRuntime) -> Any:
    """The module of a runtime.

    Raises:
        EngineError: it is not installed.
    """
    for name in _MODULES[runtime]:
        try:
            module = importlib.import_module(name)
        except (ImportError, OSError):
            continue
        if hasattr(module, "Runtime"):
            return module
    raise EngineError(f"there is no Python module {_MODULES[runtime][0]!r}; {_INSTALL[runtime]}")


def release(library: Any) -> str:
    """The version of a runtime's library."""
    return str(library.__version__)


def check_release(name: str, spec: EngineSpec, library: Any) -> None:
    """Check that an engine is for the release that is installed.

    Raises:
        EngineError: it is another's, and releases don't run each other's engines.
    """
    installed = release(library)
    if spec.release != installed and not (spec.runtime == "tensorrt" and spec.version_compatible):
        raise EngineError(
            f"{name} was built by {spec.runtime} {spec.release}, and {installed} is installed; "
            f"install that release or build again with python -m export.tensorrt BUNDLE"
        )


def check_validity(name: str, data: bytes, library: Any, runtime: Any, *, gpu: bool) -> None:
    """Let the runtime look at an engine's header: is it whole, of its own release, and for this GPU?

    Args:
        name: of the engine, for the error.
        data: its bytes.
        library: the runtime's module.
        runtime: its Runtime object.
        gpu: whether there is a GPU to judge by; without one only a malformed header is found.

    Raises:
        EngineError: what the runtime says is wrong.
    """
    if not hasattr(runtime, "get_engine_validity"):  # TensorRT has it since 10.14; before, deserialising tells
        return
    validity, diagnostics = runtime.get_engine_validity(data)
    flags = library.EngineInvalidityDiagnostics.__members__
    reasons = [flag.lower().replace("_", " ") for flag, bit in flags.items() if diagnostics & int(bit)]
    malformed = diagnostics & int(flags["MALFORMED_ENGINE"])
    if malformed or (gpu and validity == library.EngineValidity.INVALID):
        raise EngineError(
            f"{name} is no engine that {library.__name__} {release(library)} runs here "
            f"({', '.join(reasons) or 'no reason given'}); build it again with python -m export.tensorrt BUNDLE"
        )
