"""The timings, and the outputs that decisions are made of; needs the runtime, OpenVINO and numpy alone."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from benchmarks.machine import processor
from runtime.engines.interface import Engine, Outputs, joined
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from runtime.engines.ov.engine import SIZES, OpenVino, load_core
from runtime.engines.processor import machine_flags
from runtime.exceptions import EngineError
from runtime.manifest import Manifest
from runtime.scores import largest_error

BATCHES = (1, 8, 32)
BASE = "onnxruntime-cpu fp32"
_LEAST, _MOST = 3, 101  # rounds
_PIECE = 64

Images = npt.NDArray[np.uint8]
Make = Callable[[int], Engine]


class Results:
    """A JSON document that is written after every row."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.found: dict[str, Any] = {
            "machine": {
                "processor": processor(),
                "flags": machine_flags(),
                "cores": cores(),
                "python": platform.python_version(),
                "onnxruntime": ort.__version__,
                "openvino": str(load_core().get_versions("CPU")["CPU"].build_number),
            },
            "absent": {},
        }

    def add(self, kind: str, row: dict[str, Any]) -> None:
        self.found.setdefault(kind, []).append(row)
        self.write()
        print(kind, json.dumps(row), flush=True)

    def write(self) -> None:
        self._file.write_text(json.dumps(self.found, indent=1) + "\n")


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def engines(folder: Path) -> dict[str, Make]:
    """By engine and precision, what makes an engine of so many threads."""
    fp32, int8 = ((folder / f"{precision}.onnx").read_bytes() for precision in ("fp32", "int8"))
    return {
        BASE: lambda threads: OnnxRuntimeCpu(fp32, threads),
        "onnxruntime-cpu int8": lambda threads: OnnxRuntimeCpu(int8, threads),
        "openvino fp32": lambda threads: OpenVino(fp32, "f32", threads=threads),
        "openvino int8": lambda threads: OpenVino(int8, "f32", threads=threads),
        "openvino bf16": lambda threads: OpenVino(fp32, "bf16", threads=threads),
    }


def speed(results: Results, folder: Path, seconds: float) -> None:
    """Images a second of each engine, and the median ratio to ONNX Runtime in fp32 in the same round."""
    manifest = Manifest.from_json((folder / "manifest.json").read_text())
    shape = (manifest.input.height, manifest.input.width, 3)
    images = np.random.default_rng(0).integers(0, 256, (max(BATCHES), *shape), dtype=np.uint8)
    for threads in sorted({1, cores()}):
        made = {}
        for name, make in engines(folder).items():
            try:
                made[name] = make(threads)
            except EngineError as error:
                results.found["absent"][name] = str(error)
        for batch in BATCHES:
            calls = {name: partial(engine.run, images[:batch]) for name, engine in made.items()}
            times = in_turns(calls, seconds)
            for name, found in times.items():
                engine, precision = name.split()
                row = {
                    "model": folder.name,
                    "engine": engine,
                    "precision": precision,
                    "threads": threads,
                    "batch": batch,
                }
                ratio = statistics.median(a / b for a, b in zip(times[BASE], found, strict=True))
                results.add("speed", {**row, **_rate(batch, found), "ratio": ratio})


def shapes(results: Results, folder: Path, seconds: float) -> None:
    """Prepared sizes against one model for any batch, each size alone and in turns; whole in bf16 against trunk and head."""
    model = (folder / "fp32.onnx").read_bytes()
    core = load_core()
    images = np.random.default_rng(0).integers(0, 256, (max(SIZES), 32, 32, 3), dtype=np.uint8)
    for hint in ("f32", "bf16"):
        try:
            prepared = OpenVino(model, hint, threads=1)
        except EngineError:
            continue
        config = {"INFERENCE_PRECISION_HINT": hint, "NUM_STREAMS": "0", "INFERENCE_NUM_THREADS": 1}
        graph = core.read_model(model)
        dynamic = core.compile_model(graph, "CPU", config).create_infer_request()
        whole = {}
        for size in SIZES:
            graph = core.read_model(model)
            graph.reshape({"images": [size, 32, 32, 3]})
            whole[size] = core.compile_model(graph, "CPU", config).create_infer_request()
        other = partial(_request, dynamic, images[:3])
        for size in SIZES:
            batch = images[:size]
            calls = {
                "prepared": partial(prepared.run, batch),
                "whole": partial(_request, whole[size], batch),
                "dynamic": partial(_request, dynamic, batch),
            }
            found = in_turns(calls, seconds / 2)
            found |= {"dynamic, after another": in_turns({"": calls["dynamic"]}, seconds / 6, other)[""]}
            for name, times in found.items():
                results.add("shapes", {"hint": hint, "batch": size, "kind": name, **_rate(size, times)})


def lanes(results: Results, folder: Path, seconds: float) -> None:
    """Two batches at the same time with a thread each, against one batch after the other with two threads."""
    model = (folder / "fp32.onnx").read_bytes()
    images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
    for hint in ("f32", "bf16"):
        try:
            apart, together = OpenVino(model, hint, threads=1, lanes=2), OpenVino(model, hint, threads=2)
        except EngineError:
            continue
        with ThreadPoolExecutor(2) as pool:
            for batch in (1, 16):
                eight = [images[:batch]] * 8
                calls = {
                    "two lanes of one thread": lambda: list(pool.map(apart.run, eight)),  # noqa: B023  called here
                    "one lane of two threads": lambda: list(map(together.run, eight)),  # noqa: B023
                }
                for name, found in in_turns(calls, seconds).items():
                    results.add("lanes", {"hint": hint, "batch": batch, "kind": name, **_rate(8 * batch, found)})


def outputs(results: Results, folder: Path, sets: Mapping[str, Path], out: Path) -> None:
    """What each engine makes of the images that decisions are compared on, one .npz an engine."""
    manifest = Manifest.from_json((folder / "manifest.json").read_text())
    images = {}
    for name, file in sets.items():
        with np.load(file) as stored:
            images[name] = stored["images"]
    for name, make in engines(folder).items():
        try:
            engine = make(cores())
        except EngineError:
            continue
        found = {key: _run(engine, some) for key, some in images.items()}
        arrays = {
            f"{key}_{what}": getattr(part, what)
            for key, part in found.items()
            for what in ("logits", "scores", "penultimate")
        }
        np.savez_compressed(out / f"{name.replace(' ', '-')}.npz", **arrays)
        error = max(
            largest_error(manifest, part.logits, np.asarray(part.penultimate), part.scores) for part in found.values()
        )
        results.add("heads", {"engine": name, "largest_error": error})


def in_turns(
    calls: Mapping[str, Callable[[], Any]], seconds: float, before: Callable[[], Any] = tuple
) -> dict[str, list[float]]:
    """Seconds of each call in each round, for about so many seconds in all; `before` each call, which is not counted."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
        call()
    end = time.perf_counter() + seconds
    for number in range(_MOST):
        if number >= _LEAST and time.perf_counter() > end:
            break
        for name in list(calls)[:: 1 if number % 2 else -1]:  # none always goes first
            before()
            start = time.perf_counter()
            calls[name]()
            times[name].append(time.perf_counter() - start)
    return times


def _rate(images: int, seconds: list[float]) -> dict[str, Any]:
    median = statistics.median(seconds)
    return {"milliseconds": 1e3 * median, "images_per_second": images / median, "rounds": len(seconds)}


def _request(request: Any, batch: Images) -> list[npt.NDArray[Any]]:
    request.infer({0: batch}, share_inputs=True)
    return [request.get_tensor(name).data.copy() for name in ("logits", "scores")]


def _run(engine: Engine, images: Images) -> Outputs:
    parts = [images[start : start + _PIECE] for start in range(0, len(images), _PIECE)]
    return joined([engine.run(part, penultimate=True) for part in parts])
