"""How many threads a call, calls at a time and images a call suit this engine on this machine: chosen by measurement.

What the user sets stands. The rest is measured once, in about a second, and kept in the engines' cache, so that the next
start finds it. The figures are of the service's own pipeline, in which decoding and inference share the cores.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from time import monotonic
from typing import Literal, cast

from runtime import Gate, schema
from runtime.bundle import MODEL, Bundle
from runtime.engines import cache
from runtime.engines.interface import EngineName, EngineOptions
from runtime.engines.processor import machine_flags
from runtime.engines.selection import ON_CPU
from runtime.exceptions import EngineError
from serving.deciding.pipeline import suitable_batch
from serving.deciding.sizing import Measurement, Timing, applied, candidates, full_batch, quickest, told
from serving.deciding.stopwatch import batch_seconds, photograph, timings_of
from serving.settings import TUNED, Settings

logger = logging.getLogger("oodgate")

_FILE = "tuning.json"
_VERSION = "2"  # of what is measured, and how

Source = Literal["settings", "measured", "cache"]


@dataclass(frozen=True)
class Tuning:
    """What the service runs with, as /model shows it."""

    engine_threads: int
    engine_calls: int
    max_batch: int
    batch_wait_ms: int
    chosen_by: Source

    def __str__(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in dataclasses.asdict(self).items() if name in TUNED)


def tuned(bundle: Bundle, settings: Settings, load: Callable[[Settings], Gate]) -> tuple[Gate, Settings, Tuning]:
    """A bundle's gate with the settings that suit its engine here, and a line in the log that says which and why.

    Args:
        bundle: to serve.
        settings: what is in their `given` stays.
        load: makes the gate of settings.

    Raises:
        OodgateError: what `load` raises.
    """
    if not settings.tune or settings.given >= TUNED:
        return _as_set(settings, load(settings))
    shapes = candidates(settings.decode_threads, settings)
    parts = _parts(bundle, settings, shapes)
    root = EngineOptions().cache
    if found := _kept(root / cache.key(parts) / _FILE):
        chosen = applied(settings, found)
        gate = load(chosen)
        if gate.engine.name == found.engine:
            return _told(gate, chosen, "cache", f"as measured before, in {root}")
    start, made = monotonic(), _Once(settings, load, shapes)

    def fill(folder: Path) -> None:
        (folder / _FILE).write_text(_text(made.measurement()))

    try:
        folder = cache.filled(root, parts, fill)
        found = None if made.done else _kept(folder / _FILE)  # another worker's, that was waited for
        if not made.done and (found is None or found.engine != made.gate.engine.name):
            cache.write(folder / _FILE, _text(made.measurement()).encode())
    except EngineError as error:
        logger.warning("%s; what suits the engine is measured at each start", error)
    measured = found or made.measurement()
    chosen = applied(settings, measured)
    return _told(made.gate_of(chosen), chosen, "measured", f"measured in {monotonic() - start:.1f} s: {told(measured)}")


class _Once:
    """A measurement that is made when it is asked for, and the gates that it took."""

    def __init__(self, settings: Settings, load: Callable[[Settings], Gate], shapes: list[tuple[int, int]]) -> None:
        self._settings = settings
        self._load = load
        self._shapes = shapes
        self._gates: dict[tuple[int, int], Gate] = {}
        self._measured: Measurement | None = None

    @property
    def done(self) -> bool:
        return self._measured is not None

    @property
    def gate(self) -> Gate:
        """By the settings as they are."""
        return self.gate_of(self._settings)

    def gate_of(self, settings: Settings) -> Gate:
        shape = settings.engine_threads, settings.engine_calls
        if shape not in self._gates:
            self._gates[shape] = self._load(settings)
        return self._gates[shape]

    def measurement(self) -> Measurement:
        if self._measured is None:
            gate, settings = self.gate, self._settings
            name = cast("EngineName", gate.engine.name)
            shapes = self._shapes
            if name not in ON_CPU:  # on a GPU threads are nothing to the engine, and loading takes long
                shapes = [(settings.engine_threads, settings.engine_calls)]
            each = [
                dataclasses.replace(settings, engine=name, engine_threads=threads, engine_calls=calls)
                for threads, calls in shapes
            ]
            found = timings_of([(one, self.gate_of(one)) for one in each], photograph(gate))
            timings = tuple(Timing(*shape, *seconds) for shape, seconds in zip(shapes, found, strict=True))
            best = quickest(timings)
            chosen = self._gates[best.threads, best.calls]
            sizes = [1 << n for n in range(suitable_batch(chosen.engine, 0).bit_length())]
            batches = {str(size): seconds for size, seconds in batch_seconds(chosen, sizes).items()}
            self._measured = Measurement(name, timings, batches)
        return self._measured


def _as_set(settings: Settings, gate: Gate) -> tuple[Gate, Settings, Tuning]:
    return gate, settings, _tuning(gate, settings, "settings")


def _told(gate: Gate, settings: Settings, source: Source, why: str) -> tuple[Gate, Settings, Tuning]:
    tuning = _tuning(gate, settings, source)
    logger.info("%s, %s", tuning, why)
    return gate, settings, tuning


def _tuning(gate: Gate, settings: Settings, source: Source) -> Tuning:
    return Tuning(
        settings.engine_threads,
        settings.engine_calls,
        suitable_batch(gate.engine, settings.max_batch),
        settings.batch_wait_ms,
        source,
    )


def _parts(bundle: Bundle, settings: Settings, shapes: list[tuple[int, int]]) -> dict[str, str]:
    """All that the figures depend on, of which nothing needs an engine that is loaded."""
    return {
        "tuning": _VERSION,
        "model": bundle.manifest.files[MODEL].sha256,
        "engine": settings.engine,
        "processor": " ".join(machine_flags()),
        "cores": str(settings.decode_threads),
        "ways": str(shapes),
        **{name: _version(name) for name in ("onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt")},
    }


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "none"


def _text(measured: Measurement) -> str:
    return json.dumps(dataclasses.asdict(measured), indent=1) + "\n"


def _kept(file: Path) -> Measurement | None:
    """What was measured before; None where there is nothing, or nothing that can be read."""
    try:
        found = schema.build(Measurement, json.loads(file.read_text()))
        quickest(found.timings), full_batch({int(size): time for size, time in found.batches.items()})
    except (OSError, ValueError, ZeroDivisionError):
        return None
    return found
