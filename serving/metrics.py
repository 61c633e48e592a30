"""Prometheus metrics of the service, right in sum over its workers."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from runtime import Decision, Gate
from runtime.bundle import MODEL

if TYPE_CHECKING:
    from prometheus_client import Gauge, Histogram

    from serving.deciding.pipeline import Job
    from serving.deciding.shadow import Comparison
    from serving.drift.monitor import Report
    from serving.rejects.writer import Outcome

_SECONDS = (0.00025, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 8.192)
_BATCH = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_SCORE_QUANTILES = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)

_ROW = 64  # observations at a time

_DRIFT = {
    "images": "Images in the drift window",
    "rejection_rate": "Share of the window that was rejected",
    "rejection_rate_low": "Lower end of its 95 % interval",
    "rejection_rate_high": "Upper end of its 95 % interval",
    "uniformity_p_value": "Kolmogorov-Smirnov test of the window against the calibration images",
    "change": "log10 of the evidence that traffic changed, over the alarm's level",
    "mismatch": "log10 of the evidence that traffic never was like the calibration images, over the alarm's level",
    "alarm": "1 while the drift alarm is on",
}

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counters, gauges and histograms, registered once a process by :func:`metrics`.

    Every series is labelled by what the service knows (route templates, status codes, class names), never by what a
    client sends. Histograms are brought up to date by :meth:`settle`, some observations at a time: one among a request's work
    costs three times as much as in a row with others.
    """

    def __init__(self) -> None:
        # BentoML points this library at a directory that its workers share, in the environment and only when a worker
        # starts; imported earlier, it would count for one process alone.
        from prometheus_client import Counter, Gauge, Histogram

        _bury_dead_workers()
        self._unsettled: deque[tuple[Histogram, float]] = deque()
        self._requests = cache(Counter("oodgate_requests", "Requests answered", ["route", "status"]).labels)
        seconds = Histogram("oodgate_request_seconds", "Time to answer a request", ["route"], buckets=_SECONDS)
        self._request_seconds = cache(seconds.labels)
        decisions = Counter(
            "oodgate_decisions", "Images decided on, by verdict and predicted class", ["decision", "label"]
        )
        self._decisions = cache(decisions.labels)
        self._errors = Counter("oodgate_errors", "Images and requests refused with an error", ["code"])
        self._dropped = Counter("oodgate_dropped", "Images dropped before inference", ["reason"])
        self._batch = Histogram("oodgate_batch_images", "Images of an engine call", buckets=_BATCH)
        self._queue = Gauge("oodgate_queue_images", "Images waiting for the engine", multiprocess_mode="livesum")
        self._rejects = Counter("oodgate_rejects", "Rejected images offered to the store", ["outcome"])
        self._drift = {name: _latest(f"oodgate_drift_{name}", text) for name, text in _DRIFT.items()}
        self._reloads = Counter("oodgate_reloads", "Replaced bundles that a worker loaded", ["outcome"])
        self._bundles = Gauge(
            "oodgate_bundle_info",
            "Workers that have a bundle in service",
            ["role", "model", "sha256"],
            multiprocess_mode="livesum",
        )
        self._shadow = Counter("oodgate_shadow", "Images that the shadow bundle was asked about", ["outcome"])
        self._scores: dict[str, Histogram] = {}  # by the SHA-256 of the model
        stages = Histogram("oodgate_stage_seconds", "Time of a stage of the work", ["stage"], buckets=_SECONDS)
        self._read, self._decode, self._wait, self._infer = map(stages.labels, ("read", "decode", "queue", "infer"))

    def settle(self) -> None:
        """Enter what was observed since the last time; on the event loop, four times a second and before a scrape too."""
        while self._unsettled:
            histogram, value = self._unsettled.popleft()
            histogram.observe(value)

    def _observe(self, histogram: Histogram, value: float) -> None:
        self._unsettled.append((histogram, value))
        if len(self._unsettled) >= _ROW:
            self.settle()

    def request(self, route: str, status: int, seconds: float) -> None:
        """One request answered, or refused."""
        self._requests(route, status).inc()
        self._observe(self._request_seconds(route), seconds)

    def queue(self, images: int) -> None:
        """How many images wait for the engine now."""
        self._queue.set(images)

    def read(self, seconds: float) -> None:
        """A request's body is there."""
        self._observe(self._read, seconds)

    def jobs(self, jobs: Sequence[Job]) -> None:
        """A batch has its decisions, or jobs were ended without the engine."""
        images = 0
        for job in jobs:
            if job.started:
                images += job.size
                self._observe(self._decode, job.ready - job.decoding)
                self._observe(self._wait, job.started - job.submitted - (job.ready - job.decoding))
            elif not isinstance(job.outcome, Exception) or job.is_late:
                self._dropped.labels("abandoned" if job.request.abandoned else "late").inc(job.size)
        if images:
            self._observe(self._batch, images)
            started = next(job for job in jobs if job.started)
            self._observe(self._infer, started.finished - started.started)

    def decision(self, decision: Decision, gate: Gate) -> None:
        """One image accepted or rejected, by its predicted class whatever the verdict.

        Args:
            decision: the verdict.
            gate: of the bundle that decided, at its default operating point, whose threshold is one of the buckets'.
        """
        self._decisions(decision.decision, gate.manifest.labels[decision.class_index]).inc()
        histogram = self._scores.get(decision.model.sha256)
        if histogram is None:
            histogram = self._scores[decision.model.sha256] = _score_histogram(gate)
        self._observe(histogram, decision.score.value)

    def drift(self, report: Report) -> None:
        """What the stream of all workers looks like now."""
        low, high = report.rejection_interval
        for name, value in (
            ("images", report.images),
            ("rejection_rate", report.rejection_rate),
            ("rejection_rate_low", low),
            ("rejection_rate_high", high),
            ("uniformity_p_value", report.uniformity.p_value),
            ("change", report.change),
            ("mismatch", report.mismatch),
            ("alarm", report.alarm),
        ):
            self._drift[name].set(math.nan if value is None else value)

    def reject(self, outcome: Outcome) -> None:
        """What became of a rejected image that was to be kept."""
        self._rejects.labels(outcome).inc()

    def bundle(self, role: Literal["served", "shadow"], gate: Gate, workers: int) -> None:
        """This worker has a bundle in service (1), or no longer (0)."""
        self._bundles.labels(role, gate.manifest.model.name, gate.manifest.files[MODEL].sha256).set(workers)

    def reload(self, outcome: Literal["swapped", "refused"]) -> None:
        """What became of a bundle that replaced another on disk."""
        self._reloads.labels(outcome).inc()

    def shadow(self, outcome: Comparison) -> None:
        """What the shadow bundle said of an image, beside the bundle in service."""
        self._shadow.labels(outcome).inc()

    def error(self, code: str) -> None:
        """One image, or one request, refused with the error `code`."""
        self._errors.labels(code).inc()


def exposition() -> bytes:
    """All workers' metrics in Prometheus' text format."""
    from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector

    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


@cache
def metrics() -> Metrics:
    """The process's metrics."""
    return Metrics()


def _latest(name: str, text: str) -> Gauge:
    """A gauge that every worker sets to the same, of which the latest counts."""
    from prometheus_client import Gauge

    return Gauge(name, text, multiprocess_mode="mostrecent")


def _score_histogram(gate: Gate) -> Histogram:
    """Of the gate's score, in buckets between quantiles of its calibration scores and at its threshold."""
    from prometheus_client import Histogram

    spec, calibration = gate.manifest.gate, gate.manifest.calibration
    assert spec is not None
    assert calibration is not None
    at = np.multiply(_SCORE_QUANTILES, calibration.n)
    quantiles = np.interp(at, calibration.ranks, calibration.quantiles[spec.score])
    bounds = sorted({*np.float32(quantiles).tolist(), spec.threshold})
    # Each gate has buckets of its own under the same name, which the workers' shared directory takes and a registry
    # would not; so in a process by itself this histogram is not shown.
    histogram = Histogram("oodgate_score", "Gate scores", ["score", "model"], buckets=bounds, registry=None)
    return histogram.labels(spec.score, gate.manifest.files[MODEL].sha256[:12])


def _bury_dead_workers() -> None:
    """Forget the gauges of workers that were killed, which nobody else does; their counters stay."""
    from prometheus_client.multiprocess import mark_process_dead

    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    for file in Path(directory).glob("gauge_live*_*.db") if directory else ():
        pid = file.stem.rpartition("_")[2]
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            mark_process_dead(pid)  # type: ignore[no-untyped-call]
        except PermissionError:
            pass  # alive, and another user's
