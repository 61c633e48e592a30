"""What can be called: the engines that work here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.gpu.graphs import Images
from benchmarks.gpu.report import Case, Findings
from export.tensorrt.attach import attach
from export.tensorrt.build import build
from export.tensorrt.options import BuildOptions
from runtime.bundle import Bundle
from runtime.engines import selection
from runtime.engines.gpu import find_gpu
from runtime.engines.interface import Engine, EngineName, EngineOptions
from runtime.manifest import NativeRuntime

Floats = npt.NDArray[np.float32]
Run = Callable[[Images], tuple[Floats, Floats | None]]
"""From images to logits and scores; None where there are none."""


def engine_run(engine: Engine) -> Run:
    """An engine's call."""

    def call(images: Images) -> tuple[Floats, Floats | None]:
        outputs = engine.run(images)
        return outputs.logits, outputs.scores

    return call


def engines(
    of: Bundle, names: Sequence[EngineName], largest: int, cache: Path, findings: Findings | None
) -> Iterator[Engine]:
    """Those of the named engines that work here, native ones built first; `findings` keeps why the others don't."""
    for name in names:
        try:
            if name == "tensorrt" or name == "tensorrt-rtx":  # one by one, mypy knows the type
                of = with_engine(of, name, largest)
            yield selection.load(of, EngineOptions(name, cache=cache))
        except Exception as error:  # whatever a library raises, the others are still to be timed
            if findings:
                findings.skip(Case(of.manifest.model.name, of.manifest.model.precision, name), None, error)


def with_engine(of: Bundle, runtime: NativeRuntime, largest: int) -> Bundle:
    """A bundle with a native engine for this GPU.

    Raises:
        ExportError: none can be built.
    """
    options = BuildOptions(runtime, (find_gpu().capability,), (1, min(32, largest), largest))
    return attach(of, build(of, options))[0]
