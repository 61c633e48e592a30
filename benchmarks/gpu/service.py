"""The gate in process and over HTTP, on the engine for the GPU: what is left of the engine's own speed."""

from __future__ import annotations

import io
import shutil
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.gpu.calls import engine_run
from benchmarks.gpu.ceilings import floor, work
from benchmarks.gpu.graphs import Images, calibrated, pictures
from benchmarks.gpu.report import Case, Findings, Row
from benchmarks.gpu.timing import timed
from benchmarks.paths import BUNDLE, IMAGE
from benchmarks.servers import product, wrk
from runtime import Gate
from runtime.bundle import Bundle
from runtime.engines import selection
from runtime.engines.interface import EngineName, EngineOptions
from runtime.exceptions import EngineError
from runtime.gate import MAX_BATCH

CONNECTIONS = (1, 16, 64)
CALLERS = (1, 2)
_ROUNDS, _BATCHES = 5, 24


def gated(of: Bundle, name: EngineName, cache: Path) -> Bundle:
    """A bundle with a gate, calibrated on made-up images on an engine; what an earlier run left is taken as it is."""
    path = of.path.with_name(f"{of.path.name}-gated")
    if path.is_dir():
        return Bundle.load(path)
    engine = selection.load(of, EngineOptions(name, cache=cache))
    return calibrated(of, engine_run(engine)(pictures(256, of.manifest.input, seed=5))[1], path)  # type: ignore[arg-type]


def in_process(findings: Findings, of: Bundle, name: EngineName, cache: Path, seconds: float) -> None:
    """Decisions on batches of 64 by one caller and by two at the same time, and what the engine alone takes for them."""
    gate = Gate(of, selection.load(of, EngineOptions(name, cache=cache)))
    images = pictures(MAX_BATCH, of.manifest.input)
    (alone,) = timed([engine_run(gate.engine)], images, seconds)
    _keep(findings, of, f"{name}, engine alone", alone)
    for callers in CALLERS:
        _keep(findings, of, f"{name}, Gate.decide by {callers}", _side_by_side(gate.decide, images, callers))
    findings.write()


def over_http(findings: Findings, of: Bundle, name: EngineName, folder: Path, seconds: int) -> None:
    """Requests a second of the shipped bundle with its image, and of a bundle at 224 pixels with a photograph's JPEG.

    Raises:
        EngineError: wrk is not installed.
    """
    if shutil.which("wrk") is None:
        raise EngineError("wrk is not installed")
    photograph = folder / "photograph.jpg"
    photograph.write_bytes(_photograph())
    for bundle, image in ((BUNDLE, IMAGE), (of.path, photograph)):
        with product(bundle, engine=name, workers=1) as (url, _):
            for connections in CONNECTIONS:
                wrk(f"{url}/classify", image, connections, 1)
                load = wrk(f"{url}/classify", image, connections, seconds)
                row = {"bundle": bundle.name, "image": image.name, "connections": connections, "requests/s": load.rate}
                findings.served.append(
                    row | {"p50, ms": load.p50, "p99, ms": load.p99, "failed": load.refused + load.failed}
                )
                findings.write()


def _side_by_side(decide: Callable[[Images], object], images: Images, callers: int) -> list[float]:
    """Seconds of each of some calls, `callers` of them at a time, as if they came one after the other."""
    rounds = []
    with ThreadPoolExecutor(callers) as pool:
        list(pool.map(decide, [images] * callers))
        for _ in range(_ROUNDS):
            start = time.perf_counter()
            list(pool.map(decide, [images] * _BATCHES))
            rounds.append((time.perf_counter() - start) / _BATCHES)
    return rounds


def _keep(findings: Findings, of: Bundle, what: str, times: list[float]) -> None:
    spec, median = of.manifest.model, statistics.median(times)
    least = floor(work(of), MAX_BATCH, spec.precision, findings.known)
    row = Row(
        case=Case(spec.name, spec.precision, what),
        batch=MAX_BATCH,
        median_ms=1e3 * median,
        p99_ms=1e3 * float(np.quantile(times, 0.99)),
        images_per_second=MAX_BATCH / median,
        gate=None,
        to_device=None,
        to_host=None,
        difference=None,
        floor_ms=None if least is None else 1e3 * least,
    )
    findings.rows.append(row)


def _photograph() -> bytes:
    """A JPEG of 640 x 480."""
    coarse = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()
