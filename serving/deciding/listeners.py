"""Who hears of every decision while the service runs: metrics, the log of decisions, the drift watch, the reject store."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from runtime import Decision, Gate
from runtime.atomic import check_writable
from runtime.bundle import MODEL
from runtime.manifest import GateSpec
from runtime.rule import Rule
from serving.deciding.served import Decided, Listener
from serving.drift.monitor import DriftSettings, Report
from serving.drift.watch import DriftWatch
from serving.drift.window import WindowSize
from serving.internals import monitor_directory
from serving.metrics import metrics
from serving.outcomes.ledger import Ledger, forget_others
from serving.outcomes.report import Counts
from serving.outcomes.report import Report as OutcomesReport
from serving.process.home import shared_metrics
from serving.rejects.files import open_files
from serving.rejects.store import RejectStore, StoreLimits
from serving.rejects.writer import RejectWriter
from serving.settings import Settings

logger = logging.getLogger("oodgate")

_SCORE_QUANTILES = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)


@dataclass(frozen=True)
class Listeners:
    """What listens, from its start to :meth:`close`.

    Attributes:
        each: to be called with each decision.
        drift: the stream of p-values, of all workers.
        rejects: the store of rejected images; None where none is kept.
        outcomes: the decisions that are remembered until their labels come; None where none is, or for a model
            that does not give one label an image.
    """

    each: tuple[Listener, ...]
    drift: DriftWatch
    rejects: RejectStore | None
    outcomes: Ledger | None
    _writer: RejectWriter | None

    @classmethod
    def start(cls, gate: Gate, settings: Settings) -> Listeners:
        """Begin to listen to the decisions of a gate.

        Raises:
            sqlite3.Error: the file of outcomes can't be made.
            StoreUnusable: rejected images can't be kept where the settings say.
        """
        window = WindowSize(settings.drift_images, settings.drift_seconds)
        drift = DriftWatch.of_gate(
            gate.spec,
            gate.manifest.files[MODEL].sha256,
            DriftSettings(window, settings.drift_false_alarm),
            _shared(),
            on_report=show_drift,
        )

        each: list[Listener] = [counter(gate), watcher(gate.rule, drift)]
        if settings.monitor and _can_monitor():
            each.append(log_decision)
        rejects = writer = None
        if settings.rejects:
            limits = StoreLimits(settings.rejects_bytes, settings.rejects_days * 86_400.0)
            rejects = RejectStore(open_files(settings.rejects), limits)
            writer = RejectWriter(rejects, settings.rejects_percent / 100, on_outcome=metrics().reject)
            each.append(keeper(gate, writer))
        ledger = _ledger(gate, settings)
        if ledger:
            each.append(rememberer(gate, ledger))
            ledger.start()
        show_outcomes(OutcomesReport.of(ledger.counts() if ledger else Counts(), gate.spec))
        drift.start()
        return cls(tuple(each), drift, rejects, ledger, writer)

    def close(self) -> None:
        """Write down what is still to be written; waits for the disk."""
        self.drift.close()
        if self.outcomes:
            self.outcomes.close()
        if self._writer:
            self._writer.close()


def namer(gate: Gate) -> Callable[[Decision], str]:
    """The name of a decision's most probable class, whatever the verdict; empty of a model without classes."""
    labels = gate.manifest.labels

    def named(decision: Decision) -> str:
        return "" if decision.class_index is None else labels[decision.class_index]

    return named


def counter(gate: Gate) -> Listener:
    """Counts decisions in the metrics, by predicted class whatever the verdict, and enters their scores."""
    name, buckets, named = gate.spec.score, score_buckets(gate.spec), namer(gate)
    model = gate.manifest.files[MODEL].sha256[:12]

    def count(decided: Decided) -> None:
        decision = decided.decision
        metrics().decision(decision.decision, named(decision))
        if decision.reason:
            metrics().rejection(decision.reason)
        metrics().score(name, model, buckets, decision.score.value)

    return count


def watcher(rule: Rule, drift: DriftWatch) -> Listener:
    """Shows the drift watch every decision at the default operating point.

    Its reference is made of all calibration images, so it is shown p-values among all of them. A class with a threshold of
    its own has p-values of its own too, and those are uneven by the sampling error of that class's few images.
    """

    def watch(decided: Decided) -> None:
        decision = decided.standard
        drift.observe(rule.p_value_among_all(decision.score.value), decision.is_ood)

    return watch


def score_buckets(gate: GateSpec) -> list[float]:
    """Bounds for a histogram of the gate's score: quantiles of its calibration scores, and its threshold."""
    calibration = gate.calibration
    at = np.multiply(_SCORE_QUANTILES, calibration.n)
    quantiles = np.interp(at, calibration.ranks, calibration.quantiles[gate.score])
    return sorted({*quantiles.astype(np.float32).tolist(), gate.threshold})


def keeper(gate: Gate, writer: RejectWriter) -> Listener:
    """Offers what is rejected to the store."""
    named = namer(gate)

    def keep(decided: Decided) -> None:
        decision = decided.decision
        if decision.decision == "reject":
            writer.offer(decided.image, decision.to_dict(), named(decision), decided.request_id)

    return keep


def rememberer(gate: Gate, ledger: Ledger) -> Listener:
    """Has decisions at the default operating point remembered until their labels come, by the ids of their requests."""
    named = namer(gate)

    def remember(decided: Decided) -> None:
        if decided.request_id:
            decision = decided.standard
            ledger.remember(decided.request_id, decided.position, named(decision), decision.decision == "accept")

    return remember


def _ledger(gate: Gate, settings: Settings) -> Ledger | None:
    if settings.outcomes == 0 or gate.manifest.task != "multiclass":
        return None
    directory = _shared()
    path = directory / f"outcomes-{gate.manifest.files[MODEL].sha256[:16]}.sqlite" if directory else None
    if path:
        forget_others(path)
    return Ledger(path, settings.outcomes, settings.outcomes_days * 86_400.0)


def log_decision(decided: Decided) -> None:
    """One record of ``bentoml.monitor``, for use offline: verdict, predicted class, scores and request; never an image."""
    import bentoml  # which takes seconds to load, and is loaded where it serves

    decision = decided.decision
    with bentoml.monitor("oodgate") as monitor:
        monitor.log(decided.request_id, "request", "feature", "categorical")
        monitor.log(decision.model.sha256, "model", "feature", "categorical")
        monitor.log(decision.decision, "decision", "prediction", "categorical")
        monitor.log(decision.reason or "", "reason", "prediction", "categorical")
        if decision.class_index is not None:
            monitor.log(decision.class_index, "class_index", "prediction", "categorical")
            monitor.log(decision.confidence, "confidence", "prediction", "numerical")
        monitor.log(decision.score.p_value, "p_value", "prediction", "numerical")
        for name, value in decision.scores.items():
            monitor.log(value, f"score_{name}", "prediction", "numerical")


def _can_monitor() -> bool:
    """Whether records of decisions can be written; an error in the log, once, where they can't."""
    directory = monitor_directory()
    try:
        check_writable(directory)
    except OSError as error:
        logger.error(
            "OODGATE_MONITOR=1, but decisions are not logged: %s can't be written (%s); mount a volume there, or "
            "name another place by monitoring.options.log_path in BentoML's configuration",
            directory.absolute(),
            error.strerror,
        )
        return False
    return True


def show_drift(report: Report) -> None:
    """Set the metrics to what the stream of all workers looks like now."""
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
        metrics().drift(name, math.nan if value is None else value)


def show_outcomes(report: OutcomesReport) -> None:
    """Set the metrics to what the outcomes of all workers say."""
    for name, value in (
        ("answers", report.answers),
        ("errors", report.errors),
        ("error_rate", report.error_rate),
        ("error_upper", report.error_upper),
    ):
        metrics().outcome(name, math.nan if value is None else value)


def _shared() -> Path | None:
    """A directory that all workers of this service know, and that is emptied when it starts."""
    directory = shared_metrics()
    if directory is None:
        return None
    path = directory / "shared"
    path.mkdir(exist_ok=True)
    return path
