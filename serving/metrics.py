"""Prometheus metrics of the gate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from time import perf_counter

_SECONDS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048)


class Metrics:
    """Counters and histograms, registered once a process by :func:`metrics`."""

    def __init__(self) -> None:
        # BentoML points this library at a directory that its workers share, in the environment and only when a worker
        # starts; imported earlier, it would count for one process alone.
        from prometheus_client import Counter, Histogram

        self._decisions = Counter("oodgate_decisions", "Images decided on", ["decision"])
        self._errors = Counter("oodgate_errors", "Images and requests refused with an error", ["code"])
        self._latency = Histogram("oodgate_request_seconds", "Time to answer a request", ["route"], buckets=_SECONDS)

    def count_decision(self, decision: str) -> None:
        """One image accepted or rejected."""
        self._decisions.labels(decision).inc()

    def count_error(self, code: str) -> None:
        """One image, or one request, refused with the error `code`."""
        self._errors.labels(code).inc()

    @contextmanager
    def timed(self, route: str) -> Iterator[None]:
        """Observe how long a request takes, answered or refused."""
        start = perf_counter()
        try:
            yield
        finally:
            self._latency.labels(route).observe(perf_counter() - start)


@cache
def metrics() -> Metrics:
    """The process's metrics."""
    return Metrics()
