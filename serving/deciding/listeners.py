"""Who hears of every decision while the service runs: metrics, the log of decisions, the drift watch, the reject store."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from runtime import Gate
from serving.deciding.served import Decided, Listener
from serving.drift.monitor import DriftSettings
from serving.drift.watch import DriftWatch
from serving.drift.window import WindowSize
from serving.metrics import metrics
from serving.rejects.files import open_files
from serving.rejects.store import RejectStore, StoreLimits
from serving.rejects.writer import RejectWriter
from serving.settings import Settings


@dataclass(frozen=True)
class Watching:
    """What listens, from its start to :meth:`close`.

    Attributes:
        listeners: to be called with each decision.
        drift: the stream of p-values, of all workers.
        rejects: the store of rejected images; None where none is kept.
    """

    listeners: tuple[Listener, ...]
    drift: DriftWatch
    rejects: RejectStore | None
    _writer: RejectWriter | None

    @classmethod
    def start(cls, gate: Gate, settings: Settings) -> Watching:
        """Begin to listen to the decisions of a gate.

        Raises:
            StoreUnusable: rejected images can't be kept where the settings say.
        """
        window = WindowSize(settings.drift_images, settings.drift_seconds)
        drift = DriftWatch.of_bundle(
            gate.manifest,
            DriftSettings(window, settings.drift_false_alarm),
            _shared_by_workers(),
            on_report=metrics().drift,
        )

        def observe(decided: Decided) -> None:
            decision = decided.decision
            rejected, p_value = decision.is_ood, decision.score.p_value
            if decided.gate is not decided.standard:
                rejected, p_value = decided.standard.verdict(decision)
            drift.observe(p_value, rejected)

        listeners: list[Listener] = [_count, observe]
        if settings.monitor:
            from serving.monitor import log_decision

            listeners.append(log_decision)
        rejects = writer = None
        if settings.rejects:
            limits = StoreLimits(settings.rejects_bytes, settings.rejects_days * 86_400.0)
            rejects = RejectStore(open_files(settings.rejects), limits)
            writer = RejectWriter(rejects, settings.rejects_percent / 100, on_outcome=metrics().reject)
            listeners.append(_Keeper(writer))
        drift.start()
        return cls(tuple(listeners), drift, rejects, writer)

    def close(self) -> None:
        """Write down what is still to be written; waits for the disk."""
        self.drift.close()
        if self._writer:
            self._writer.close()


class _Keeper:
    """Offers what is rejected to the store."""

    def __init__(self, writer: RejectWriter) -> None:
        self._writer = writer

    def __call__(self, decided: Decided) -> None:
        decision = decided.decision
        if decision.is_ood:
            predicted = decided.gate.manifest.labels[decision.class_index]
            self._writer.offer(decided.image, decision.to_dict(), predicted, decided.request_id)


def _count(decided: Decided) -> None:
    metrics().decision(decided.decision, decided.standard)


def _shared_by_workers() -> Path | None:
    """A directory that all workers of this service know, and that is emptied when it starts."""
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if not directory:
        return None
    path = Path(directory) / "drift"
    path.mkdir(exist_ok=True)
    return path
