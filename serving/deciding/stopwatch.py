"""How long images take: one alone, one of a crowd, and a call of the engine by the images in it."""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Callable, Sequence
from time import monotonic, process_time, sleep

import numpy as np
from PIL import Image

from runtime import Gate
from runtime.engines.selection import ON_CPU
from serving.deciding.job import Images, Job, Ticket, infer
from serving.deciding.pipeline import suited
from serving.settings import Settings

_ROUNDS, _LEAST = 4, 2
_SECONDS = 0.8  # for all of the ways
_CALLS = 0.2  # for all sizes of a batch
_LONGEST = 0.5  # of a call, beyond which larger ones are not tried
_SIZE = (640, 480)

Source = bytes | Images


def photograph(gate: Gate) -> Source:
    """A JPEG of 640 x 480 pixels; where the gate's limits refuse it, an image at the model's size."""
    coarse = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize(_SIZE, Image.Resampling.BICUBIC).save(file, "JPEG", quality=85)
    data = file.getvalue()
    if isinstance(gate.try_preprocess(data), Exception):
        return _black(gate, 1)
    return data


def timings_of(ways: Sequence[tuple[Settings, Gate]], source: Source) -> list[tuple[float, float]]:
    """Seconds of an image alone and of one in a crowd, for each way; the least of some rounds in turns."""
    slice_, end = _SECONDS / _ROUNDS / len(ways), monotonic() + _SECONDS
    found = [(math.inf, math.inf)] * len(ways)
    for number in range(_ROUNDS):
        if (
            number >= _LEAST and monotonic() > end
        ):  # an image takes long, and the longer the less there is that disturbs
            break
        for i, (settings, gate) in list(enumerate(ways))[:: -1 if number % 2 else 1]:
            now = alone(gate, source, slice_ / 3), crowd(gate, source, settings, 2 * slice_ / 3)
            found[i] = min(found[i][0], now[0]), min(found[i][1], now[1])
    return found


def alone(gate: Gate, source: Source, seconds: float) -> float:
    """The least seconds for an image, decoded and decided on by this thread."""

    def once() -> None:
        job = Job(Ticket(math.inf), gate, source)
        job.images = job.decoded()
        infer([job])

    return _least(once, seconds, monotonic)


def _least(work: Callable[[], object], seconds: float, clock: Callable[[], float]) -> float:
    """The least of what `clock` says that some work takes, tried for so many seconds and twice at least."""
    times: list[float] = []
    end = monotonic() + seconds
    while len(times) < 2 or monotonic() < end:
        start = clock()
        work()
        times.append(clock() - start)
    return min(times)


def crowd(gate: Gate, source: Source, settings: Settings, seconds: float) -> float:
    """Seconds an image in a pipeline that always has some waiting."""
    end, lock, last, done = monotonic() + seconds, threading.Lock(), 0.0, 0

    def deliver(jobs: Sequence[Job]) -> None:
        nonlocal last, done
        with lock:
            done, last = done + len(jobs), monotonic()
        if last < end:
            pipeline.submit([Job(Ticket(math.inf), gate, source) for _ in jobs])

    pipeline = suited(gate.engine, settings, deliver)
    start = monotonic()
    pipeline.submit([Job(Ticket(math.inf), gate, source) for _ in range(4 * settings.decode_threads)])
    sleep(seconds)
    pipeline.close()
    return (last - start) / done


def batch_seconds(gate: Gate, sizes: Sequence[int]) -> dict[int, float]:
    """The least seconds of a call and its decisions, by the images in it; ascending, up to what takes long.

    On the CPU it is the processor's seconds that count, which no other process adds to.
    """
    clock = process_time if gate.engine.name in ON_CPU else monotonic
    found: dict[int, float] = {}
    for size in sizes:
        images = _black(gate, size)
        found[size] = _least(lambda: gate.decisions(gate.run(images)), _CALLS / len(sizes), clock)  # noqa: B023
        if found[size] > _LONGEST:
            break
    return found


def _black(gate: Gate, count: int) -> Images:
    spec = gate.manifest.input
    return np.zeros((count, spec.height, spec.width, 3), np.uint8)
