"""Watching from a service: cheap to call for every decision, one stream for all workers."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson

from runtime import atomic
from runtime.manifest import GateSpec
from serving.drift.monitor import DriftSettings, Monitor, Report, State
from serving.drift.reference import Reference

logger = logging.getLogger("oodgate")


class DriftWatch:
    """Counts decisions in memory and adds them to the stream that all workers share, once in a while.

    :meth:`observe` takes a microsecond and never touches the disk. A worker that is killed loses what it counted since
    its last :meth:`flush`. Safe to use from several threads.

    Args:
        monitor: what to make of the counts.
        path: the JSON file on a local disk through which workers share the stream, the same for all of them, and another
            for another bundle; its directory is made. None keeps the stream in this process.
        clock: seconds since the epoch.
        on_report: called after every flush, from the thread that flushed; sets gauges.
    """

    def __init__(
        self,
        monitor: Monitor,
        path: Path | None = None,
        clock: Callable[[], float] = time.time,
        on_report: Callable[[Report], None] = lambda _: None,
    ) -> None:
        self._monitor = monitor
        self._path = path
        self._clock = clock
        self._on_report = on_report
        self._bin_of = monitor.reference.locator()
        self._tally = threading.Lock()
        self._counts = [0] * monitor.bins
        self._rejected = 0
        self._flushing = threading.Lock()
        self._state = monitor.start()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @classmethod
    def of_gate(
        cls,
        gate: GateSpec,
        model: str,
        settings: DriftSettings | None = None,
        directory: Path | None = None,
        on_report: Callable[[Report], None] = lambda _: None,
    ) -> DriftWatch:
        """A watch for a bundle's gate.

        Args:
            gate: at its default operating point.
            model: the SHA-256 of the bundle's model.
            settings: window and false alarms.
            directory: on a local disk, the same for all workers; each gate has a file of its own in it. None keeps the
                stream in this process.
            on_report: as above.
        """
        reference = Reference.from_calibration(gate.calibration.ranks, gate.calibration.quantiles[gate.score])
        path = directory / f"drift-{model[:16]}-{gate.score}.json" if directory else None
        return cls(Monitor(reference, gate.alpha, settings), path, on_report=on_report)

    def observe(self, p_value: float, rejected: bool) -> None:
        """Count one decision.

        Args:
            p_value: its conformal p-value, in (0, 1].
            rejected: whether the image was rejected.
        """
        where = self._bin_of(p_value)
        with self._tally:
            self._counts[where] += 1
            self._rejected += rejected

    def flush(self) -> None:
        """Add what was counted to the stream, and learn what other workers added.

        A file that can't be read or written costs nothing but a line in the log: the counts wait for the next flush.
        """
        with self._flushing:
            with self._tally:
                counts, rejected = self._counts, self._rejected
                self._counts, self._rejected = [0] * self._monitor.bins, 0
            now = self._clock()
            try:
                self._state = self._merged(now, counts, rejected)
            except OSError as error:
                logger.error("the drift state can't be shared: %s", error)
                with self._tally:
                    self._counts = [a + b for a, b in zip(self._counts, counts, strict=True)]
                    self._rejected += rejected
                return
        self._on_report(self._monitor.report(self._state, now))

    def report(self) -> Report:
        """The stream as of the last flush, in a window that ends now."""
        return self._monitor.report(self._state, self._clock())

    def start(self, interval: float = 1.0) -> None:
        """Flush every `interval` seconds, from a thread, until :meth:`close`."""
        self._thread = threading.Thread(target=self._run, args=(interval,), name="oodgate-drift", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the thread and flush a last time."""
        self._stop.set()
        if self._thread:
            self._thread.join()
        self.flush()

    def _run(self, interval: float) -> None:
        while not self._stop.wait(interval):
            self.flush()

    def _merged(self, now: float, counts: list[int], rejected: int) -> State:
        block = np.array(counts, dtype=np.int64)
        if self._path is None:
            return self._monitor.after(self._state, now, block, rejected)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with atomic.locked(self._path.with_name(f".{self._path.name}.lock")):
            state = self._shared(self._path)
            if block.any():
                state = self._monitor.after(state, now, block, rejected)
                atomic.replace(self._path, orjson.dumps(state.to_dict()))
            return state

    def _shared(self, path: Path) -> State:
        try:
            return self._monitor.read(orjson.loads(path.read_bytes()))
        except FileNotFoundError:
            return self._monitor.start()
        except ValueError as error:
            logger.error("the drift state is unusable and starts afresh: %s", error)
            return self._monitor.start()
