"""Whether a bundle's engines are what the installed runtimes run; without a GPU, as far as that can be told."""

from __future__ import annotations

from export.exceptions import ExportError
from export.tensorrt.attach import describe
from export.tensorrt.log import recorder
from runtime.bundle import Bundle
from runtime.engines.gpu import find_gpu
from runtime.engines.trt.library import check_release, check_validity, load_library
from runtime.exceptions import EngineError


def check_engines(of: Bundle) -> list[str]:
    """One line an engine: release, header and, where there is a GPU, whether it runs there.

    Raises:
        ExportError: the bundle has none.
        EngineError: one must not be used, or its runtime is not installed.
    """
    if not of.manifest.engines:
        raise ExportError(f"{of.path} has no engines; build one with --tensorrt rtx or full")
    try:
        gpu = bool(find_gpu())
    except EngineError:
        gpu = False
    for name, spec in of.manifest.engines.items():
        library = load_library(spec.runtime)
        check_release(name, spec, library)
        silent = recorder(library)  # without a GPU the runtime complains of that too
        check_validity(name, of.read(name), library, library.Runtime(silent), gpu=gpu)
    return [describe(of, name) for name in of.manifest.engines]
