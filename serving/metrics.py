"""Prometheus metrics of the service, right in sum over its workers."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from serving.internals import live_gauge_processes

if TYPE_CHECKING:
    from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.00025, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 8.192)
_BATCH = (1, 2, 4, 8, 16, 32, 64, 128, 256)

_ROW = 64  # observations at a time

_DRIFT = {
    "images": "Images in the drift window",
    "rejection_rate": "Share of the window that was rejected as out of distribution",
    "rejection_rate_low": "Lower end of its 95 % interval",
    "rejection_rate_high": "Upper end of its 95 % interval",
    "uniformity_p_value": "Kolmogorov-Smirnov test of the window against the calibration images",
    "change": "log10 of the evidence that traffic changed, over the alarm's level",
    "mismatch": "log10 of the evidence that traffic never was like the calibration images, over the alarm's level",
    "alarm": "1 while the drift alarm is on",
}

_OUTCOMES = {
    "answers": "Accepted answers whose label was reported",
    "errors": "Those of them that were wrong",
    "error_rate": "Share of them that were wrong",
    "error_upper": "Upper bound on their error that holds at all times with 95 % confidence",
}

# Errors that alarms ask for by their codes; others are counted from their first on.
_ALARMING = (
    "engine_failed",
    "out_of_memory",
    "internal_error",
    "empty_image",
    "not_an_image",
    "unsupported_image",
    "undecodable_image",
    "unauthorized",
    "too_many_connections",
)

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
        self._rejections = _counters("rejections", "Images rejected, by reason", reason=("ood", "uncertain"))
        self._errors = Counter("oodgate_errors", "Images and requests refused with an error", ["code"])
        for code in _ALARMING:
            self._errors.labels(code)
        self._dropped = _counters("dropped", "Images dropped before inference", reason=("abandoned", "late"))
        self._batch = Histogram("oodgate_batch_images", "Images of an engine call", buckets=_BATCH)
        self._queue = Gauge("oodgate_queue_images", "Images waiting for the engine", multiprocess_mode="livesum")
        self._bodies = Gauge("oodgate_body_bytes", "Bytes of request bodies in hand", multiprocess_mode="livesum")
        self._rejects = _counters(
            "rejects", "Rejected images offered to the store", outcome=("stored", "dropped", "failed")
        )
        self._drift = {name: _latest(f"oodgate_drift_{name}", text) for name, text in _DRIFT.items()}
        self._outcomes = {name: _latest(f"oodgate_outcomes_{name}", text) for name, text in _OUTCOMES.items()}
        self._reloads = _counters("reloads", "Replaced bundles that a worker loaded", outcome=("swapped", "refused"))
        self._bundles = Gauge(
            "oodgate_bundle_info",
            "Workers that have a bundle in service",
            ["role", "model", "sha256"],
            multiprocess_mode="livesum",
        )
        self._shadow = _counters(
            "shadow",
            "Images that the shadow bundle was asked about",
            outcome=("agree", "verdict", "label", "dropped", "failed"),
        )
        self._scores: dict[str, Histogram] = {}  # by model
        stages = Histogram("oodgate_stage_seconds", "Time of a stage of the work", ["stage"], buckets=_SECONDS)
        self._stages = {stage: stages.labels(stage) for stage in ("read", "decode", "queue", "infer")}

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

    def bodies(self, size: int) -> None:
        """How many bytes of request bodies are in hand now."""
        self._bodies.set(size)

    def stage(self, name: Literal["read", "decode", "queue", "infer"], seconds: float) -> None:
        """How long a stage of the work took: reading a body, decoding an image, waiting for the engine, its call."""
        self._observe(self._stages[name], seconds)

    def batch(self, images: int, seconds: float) -> None:
        """An engine call."""
        self._observe(self._batch, images)
        self.stage("infer", seconds)

    def dropped(self, reason: Literal["abandoned", "late"], images: int) -> None:
        """Images whose decision would be of no use."""
        self._dropped[reason].inc(images)

    def decision(self, decision: str, label: str) -> None:
        """One image accepted or rejected, by its predicted class whatever the verdict."""
        self._decisions(decision, label).inc()

    def rejection(self, reason: Literal["ood", "uncertain"]) -> None:
        """Why one image was rejected."""
        self._rejections[reason].inc()

    def score(self, name: str, model: str, buckets: Sequence[float], value: float) -> None:
        """One image's gate score.

        Args:
            name: of the score.
            model: which computed it.
            buckets: upper bounds, always the same for a model.
            value: the score.
        """
        histogram = self._scores.get(model)
        if histogram is None:
            histogram = self._scores[model] = _score_histogram(name, model, buckets)
        self._observe(histogram, value)

    def drift(self, name: str, value: float) -> None:
        """One figure of the stream of all workers, as it is now."""
        self._drift[name].set(value)

    def outcome(self, name: str, value: float) -> None:
        """What the labels that came later say of accepted answers."""
        self._outcomes[name].set(value)

    def reject(self, outcome: str) -> None:
        """What became of a rejected image that was to be kept."""
        self._rejects[outcome].inc()

    def bundle(self, role: Literal["served", "shadow"], model: str, sha256: str, workers: int) -> None:
        """This worker has a bundle in service (1), or no longer (0)."""
        self._bundles.labels(role, model, sha256).set(workers)

    def reload(self, outcome: Literal["swapped", "refused"]) -> None:
        """What became of a bundle that replaced another on disk."""
        self._reloads[outcome].inc()

    def shadow(self, outcome: str) -> None:
        """What the shadow bundle said of an image, beside the bundle in service."""
        self._shadow[outcome].inc()

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


def _counters(name: str, text: str, **label: Sequence[str]) -> dict[str, Counter]:
    """A counter's series by the values of its one label, from zero: what rises from nothing is no increase to Prometheus."""
    from prometheus_client import Counter

    ((key, values),) = label.items()
    counter = Counter(f"oodgate_{name}", text, [key])
    return {value: counter.labels(value) for value in values}


def _latest(name: str, text: str) -> Gauge:
    """A gauge that every worker sets to the same, of which the latest counts."""
    from prometheus_client import Gauge

    return Gauge(name, text, multiprocess_mode="mostrecent")


def _score_histogram(name: str, model: str, buckets: Sequence[float]) -> Histogram:
    from prometheus_client import Histogram

    # Each gate has buckets of its own under the same name, which the workers' shared directory takes and a registry
    # would not; so in a process by itself this histogram is not shown.
    histogram = Histogram("oodgate_score", "Gate scores", ["score", "model"], buckets=buckets, registry=None)
    return histogram.labels(name, model)


def _bury_dead_workers() -> None:
    """Forget the gauges of workers that were killed, which nobody else does; their counters stay."""
    from prometheus_client.multiprocess import mark_process_dead

    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    for pid in live_gauge_processes(Path(directory)) if directory else ():
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            mark_process_dead(pid)  # type: ignore[no-untyped-call]
        except PermissionError:
            pass  # alive, and another user's
