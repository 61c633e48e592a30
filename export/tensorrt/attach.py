"""An engine's place in a bundle: a file of its own, a typed entry, its hash."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

from export.tensorrt.build import Built, build
from export.tensorrt.options import BuildOptions
from runtime import bundle
from runtime.bundle import Bundle
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


def _place(spec: EngineSpec) -> tuple[object, ...]:
    return spec.runtime, spec.targets, spec.batches
