"""How many threads a call, calls at a time and images a call suit this engine on this machine: chosen by measurement.

What the user sets stands. The rest is measured once, in about a second, and kept in the engines' cache, so that the next
start finds it. The figures are of the service's own pipeline, in which decoding and inference share the cores.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from time import monotonic
from typing import Any, Literal, cast

from runtime import Gate, schema
from runtime.bundle import MODEL, Bundle
from runtime.engines import cache
from runtime.engines.interface import EngineName, EngineOptions
from runtime.engines.processor import machine_flags
from runtime.engines.selection import ON_CPU
from runtime.exceptions import EngineError
from serving.deciding.pipeline import suitable_batch
from serving.deciding.stopwatch import batch_seconds, photograph, timings_of
from serving.settings import TUNED, Settings

logger = logging.getLogger("oodgate")

_FILE = "tuning.json"
_VERSION = "2"  # of what is measured, and how
# Times as long that count as no longer: a second of measuring does not tell less apart, on a machine that does other things.
# Threads of one call must bring much: they wait for each other, and so for whatever else a core does, which a quiet second
# does not show (EfficientNet-lite0 on two cores: 20 ms alone against 36, and in service 31 images a second against 42).
_AS_ABLE, _AS_SOON, _AS_CHEAP = 1.15, 2.0, 1.05
_SOON = 0.01  # seconds for an image alone, below which nobody gains by less
_MOMENT = 0.05  # seconds for a call
_MOST_WAIT = 0.005  # seconds

Source = Literal["settings", "measured", "cache"]


@dataclass(frozen=True)
class Timing:
    """What was measured of one way to run the engine.

    Attributes:
        threads: of one call.
        calls: at the same time.
        alone: seconds for an image that comes alone, decoding included.
        crowd: seconds an image where many wait.
    """

    threads: int
    calls: int
    alone: float
    crowd: float


@dataclass(frozen=True)
class Measurement:
    """What the choice follows from.

    Attributes:
        engine: whose figures they are.
        timings: one for each way.
        batches: seconds of the processor, or of waiting for a GPU, of a call of the chosen way, by the images in it.
    """

    engine: str
    timings: tuple[Timing, ...]
    batches: dict[str, float]


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


def candidates(cores: int, settings: Settings) -> list[tuple[int, int]]:
    """(threads, calls) that are worth a look: all fill the cores, a call for each first; what was set is as it is."""
    pairs = [(1 << n, cores >> n) for n in range(cores.bit_length())]
    if "engine_threads" in settings.given:
        pairs = [(settings.engine_threads, calls) for _, calls in pairs]
    if "engine_calls" in settings.given:
        pairs = [(count, settings.engine_calls) for count, _ in pairs]
    return list(dict.fromkeys(pairs))


def quickest(timings: Sequence[Timing]) -> Timing:
    """Of those that carry a crowd about as well as the best, the one that answers an image alone soonest.

    Where several are about as soon, or soon enough, the first of them: what is known to do well comes first, and must be
    beaten clearly.
    """
    least = min(timing.crowd for timing in timings)
    able = [timing for timing in timings if timing.crowd <= _AS_ABLE * least]
    soonest = max(_SOON, min(timing.alone for timing in able))
    return next(timing for timing in able if timing.alone <= _AS_SOON * soonest)


def full_batch(seconds: Mapping[int, float]) -> int:
    """The most images of a call that cost about as little each as in any, while a call takes but a moment.

    Each call also costs the service some work, so few of many images are better; but all of them wait for the last. Where
    no such call is short, as few as cost about as little.

    Args:
        seconds: of a call, by the images in it.
    """
    least = min(time / size for size, time in seconds.items())
    cheap = [size for size, time in seconds.items() if time / size <= _AS_CHEAP * least]
    return max((size for size in cheap if seconds[size] <= _MOMENT), default=min(cheap))


def worthwhile_wait(seconds: Mapping[int, float]) -> int:
    """How many milliseconds an image should wait for others to come.

    With t(n) = f + m n, a call costs f whatever is in it. Waiting for as long as what it may save, f, is never more than
    twice the best that could have been done (the ski rental problem). Where images cost more than the call, m >= f, as on a
    CPU, there is nothing to wait for.

    Args:
        seconds: of a call, by the images in it; 1 among them.
    """
    most = max(seconds)
    if most == 1:
        return 0
    each = (seconds[most] - seconds[1]) / (most - 1)
    fixed = seconds[1] - each
    return int(1e3 * min(fixed, _MOST_WAIT)) if fixed > each else 0


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


def applied(settings: Settings, measured: Measurement) -> Settings:
    """The settings that follow from a measurement; what is in their `given` stays."""
    best, seconds = quickest(measured.timings), {int(size): time for size, time in measured.batches.items()}
    values: dict[str, Any] = {
        "engine_threads": best.threads,
        "engine_calls": best.calls,
        "max_batch": full_batch(seconds),
        "batch_wait_ms": worthwhile_wait(seconds),
    }
    return dataclasses.replace(settings, **{name: values[name] for name in TUNED - settings.given})


def told(measured: Measurement) -> str:
    """The figures in words."""
    return "; ".join(
        f"{timing.calls} x {timing.threads} threads, {1e3 * timing.alone:.1f} ms alone, {1 / timing.crowd:.0f} images/s"
        for timing in measured.timings
    )


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
