"""How many threads a call, calls at a time and images a call suit an engine, by what was measured of it: no side effects."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serving.settings import TUNED, Settings

# Times as long that count as no longer: a second of measuring does not tell less apart, on a machine that does other things.
# Threads of one call must bring much: they wait for each other, and so for whatever else a core does, which a quiet second
# does not show (EfficientNet-lite0 on two cores: 20 ms alone against 36, and in service 31 images a second against 42).
_AS_ABLE, _AS_SOON, _AS_CHEAP = 1.15, 2.0, 1.05
_SOON = 0.01  # seconds for an image alone, below which nobody gains by less
_MOMENT = 0.05  # seconds for a call
_MOST_WAIT = 0.005  # seconds


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
