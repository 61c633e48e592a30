"""Calls are checked, then timed in turns; so are the copies of a batch."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.gpu.calls import Run
from benchmarks.gpu.ceilings import floor, work
from benchmarks.gpu.graphs import Images, pictures
from benchmarks.gpu.report import Case, Findings, Row
from export.exceptions import ExportError
from runtime.bundle import Bundle
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from runtime.engines.trt.cuda import Cuda
from runtime.exceptions import EngineError

_CALLS, _CHECKED, _TOLERANCE = 100, 8, 0.1


def timed(calls: Sequence[Run], images: Images, seconds: float) -> list[list[float]]:
    """Seconds of each call, in turns after a warm-up, for as long as `seconds` each and 100 times; slow calls fewer times."""
    begin = time.perf_counter()
    warm = 0
    while warm < 3 or time.perf_counter() - begin < seconds / 4:  # until clocks have risen
        for call in calls:
            call(images)
        warm += 1
    times: list[list[float]] = [[] for _ in calls]
    turns = list(zip(calls, times, strict=True))
    enough, begin = seconds * len(calls), time.perf_counter()
    while True:
        for call, own in turns:
            start = time.perf_counter()
            call(images)
            own.append(time.perf_counter() - start)
        turns.reverse()  # none always goes first
        done, spent = len(times[0]), time.perf_counter() - begin
        if spent >= enough and (done >= _CALLS or (done >= _CALLS // 5 and spent >= 10 * enough)):
            return times


@cache
def copies(images: int, results: int, seconds: float) -> tuple[float, float] | None:
    """Median seconds of copying so many bytes to the device, and so many back; None where CUDA can't be called."""
    try:
        cuda = Cuda()
    except EngineError:
        return None
    size = max(images, results)
    device, host, stream = cuda.device_memory(size), cuda.pinned_memory(size), cuda.stream()

    def there(_: Images) -> Any:
        cuda.to_device(device, host, images, stream)
        cuda.wait(stream)

    def back(_: Images) -> Any:
        cuda.to_host(host, device, results, stream)
        cuda.wait(stream)

    try:
        nothing = np.empty(0, np.uint8)
        to_device, to_host = map(statistics.median, timed([there, back], nothing, seconds))
        return to_device, to_host
    finally:
        cuda.free(device)
        cuda.free_pinned(host)
        cuda.destroy_stream(stream)


def difference(call: Run, cpu: OnnxRuntimeCpu, images: Images) -> float:
    """The largest difference of a logit from the CPU's, as a share of their range, on some images of the batch.

    Raises:
        ExportError: it, or that of a score as a share of the largest, is so large that something else is computed, which
            must not be timed.
    """
    some = np.unique(np.linspace(0, len(images) - 1, min(len(images), _CHECKED)).astype(int))
    expected = cpu.run(images[some])
    logits, scores = call(images)
    share = float(np.abs(logits[some] - expected.logits).max() / np.ptp(expected.logits))
    if not share <= _TOLERANCE:
        raise ExportError(f"the logits differ from the CPU's by {share:.0%} of their range")
    if scores is not None:
        off = np.abs(scores[some] - expected.scores).max(axis=0) / np.abs(expected.scores).max(axis=0)
        if not off.max() <= _TOLERANCE:
            raise ExportError(f"the scores differ from the CPU's by up to {off.max():.0%}")
    return share


def measure(
    findings: Findings,
    case: Case,
    of: Bundle,
    make: Callable[[Images], Run],
    batches: Sequence[int],
    seconds: float,
    bare: Run | None = None,
    spec: Any = None,
) -> None:
    """One row a batch size; what fails at one is kept and left out.

    Args:
        findings: to add to.
        case: what is timed.
        of: the bundle that it is compared with.
        make: makes the call for batches of the size of an example.
        batches: the sizes.
        seconds: of each timing.
        bare: the same without the gate.
        spec: of a native engine.
    """
    cpu, to_do = OnnxRuntimeCpu(of.model), work(of)
    for batch in tqdm(batches, desc=f"{case.model}, {case.precision}, {case.engine}", disable=None, leave=False):
        if findings.late:
            findings.skip(case, batch, EngineError("no time was left"))
            continue
        try:
            images = pictures(batch, of.manifest.input)
            call = make(images)
            share = difference(call, cpu, images)
            times, *without = timed([call, bare] if bare else [call], images, seconds)
        except Exception as error:  # whatever a peer raises, the others are still to be timed
            findings.skip(case, batch, error)
            continue
        median = statistics.median(times)
        copied = copies(images.nbytes, batch * to_do.results, seconds / 4) if "gpu" in findings.machine else None
        least = floor(to_do, batch, case.precision, findings.known)
        findings.rows.append(
            Row(
                case=case,
                batch=batch,
                median_ms=1e3 * median,
                p99_ms=1e3 * float(np.quantile(times, 0.99)),
                images_per_second=batch / median,
                gate=median / statistics.median(without[0]) if without else None,
                to_device=copied[0] / median if copied else None,
                to_host=copied[1] / median if copied else None,
                difference=share,
                floor_ms=None if least is None else 1e3 * least,
                kernels=spec.kernels if spec else None,
                head_kernels=spec.head_kernels if spec else None,
            )
        )
        findings.write()
