"""An engine's place in a bundle: a file of its own, a typed entry, its hash; and whether an installed runtime runs it."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

from export.exceptions import ExportError
from export.tensorrt.build import Built, build
from export.tensorrt.log import recorder
from export.tensorrt.options import BuildOptions
from runtime import bundle
from runtime.bundle import Bundle
from runtime.engines.gpu import find_gpu
from runtime.engines.trt.library import check_release, check_validity, load_library
from runtime.exceptions import EngineError
from runtime.gate import load_engine
from runtime.manifest import EngineSpec


def add_engine(path: Path, options: BuildOptions) -> str:
    """Build an engine into the bundle at `path`, and say in one line what it is and how long it took.

    Raises:
        BundleError, ExportError
    """
    loaded = Bundle.load(path)
    loaded.check_graph(load_engine(loaded, threads=1).signature)
    start = time.perf_counter()
    with_engine, name = attach(loaded, build(loaded, options))
    return f"{describe(with_engine, name)}; built in {time.perf_counter() - start:.1f} s"


def describe(of: Bundle, name: str) -> str:
    """One of a bundle's engines in one line."""
    spec, size = of.manifest.engines[name], of.manifest.files[name].bytes
    return (
        f"{of.path / name}: {size / 1e6:.2f} MB, {spec.precision}, batches {spec.batches[0]} to {spec.batches[2]}, "
        f"{spec.kernels} kernels, {spec.head_kernels} of them for scores and decision"
    )


def attach(to: Bundle, built: Built) -> tuple[Bundle, str]:
    """Write an engine into a bundle; one for the same runtime, GPUs and batches gives way to it.

    The file's name ends with its hash, so that no file that the manifest lists ever changes.

    Returns:
        the bundle, and the engine's name in it.

    Raises:
        BundleError: the bundle can't be written.
    """
    spec, entry = built.spec, bundle.entry(built.data)
    targets = "_".join(map(str, spec.targets))
    name = f"engines/{spec.runtime}-{spec.release}-sm{targets}-{entry.sha256[:8]}.engine"
    replaced = {other for other, old in to.manifest.engines.items() if _place(old) == _place(spec)} - {name}
    files = {other: kept for other, kept in to.manifest.files.items() if other not in replaced}
    engines = {other: kept for other, kept in to.manifest.engines.items() if other not in replaced}
    manifest = dataclasses.replace(to.manifest, files={**files, name: entry}, engines={**engines, name: spec})
    return bundle.update(to, manifest, {name: built.data}), name


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


def _place(spec: EngineSpec) -> tuple[object, ...]:
    return spec.runtime, spec.targets, spec.batches
