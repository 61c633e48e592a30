"""Window, detector and totals of one stream: the state as data, and the report that people and probes read."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.drift.detector import Detector, Evidence
from serving.drift.proportion import clopper_pearson
from serving.drift.reference import Reference
from serving.drift.uniformity import Uniformity, kolmogorov_smirnov
from serving.drift.window import Block, Blocks, WindowSize, slide, total_counts, young_blocks


@dataclass(frozen=True)
class DriftSettings:
    """What to watch for.

    Attributes:
        window: how far back the reported rates reach.
        requests_per_false_alarm: the least mean number of in-distribution images to a false alarm of change.
    """

    window: WindowSize = dataclasses.field(default_factory=WindowSize)
    requests_per_false_alarm: float = 1e7


@dataclass(frozen=True)
class State:
    """All that is known of a stream; what workers share.

    Attributes:
        images, rejected: since the stream's beginning, the latter as out of distribution.
        changed: when the alarm went on or off last, in seconds since the epoch; 0 if it never did.
        blocks: the window.
        evidence: the detector's.
    """

    images: int
    rejected: int
    changed: float
    blocks: Blocks
    evidence: Evidence

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for JSON; an evidence of zero becomes null."""
        document = dataclasses.asdict(self)
        evidence = document["evidence"]
        evidence["urn"], evidence["recent"] = evidence["urn"].tolist(), evidence["recent"].tolist()
        evidence["log_change"] = [gain if np.isfinite(gain) else None for gain in evidence["log_change"].tolist()]
        evidence["log_mismatch"] = evidence["log_mismatch"].tolist()
        return document


@dataclass(frozen=True)
class Report:
    """What the stream looks like now.

    Attributes:
        images: in the window.
        seconds: how long ago the window's oldest image was decided on.
        rejected: as out of distribution, in the window.
        rejection_rate: rejected / images; None without images.
        rejection_interval: exact 95 % interval of the rate; above `alpha` when more is rejected than promised.
        alpha: the bound on the rejection rate of in-distribution images.
        uniformity: the window against the calibration images.
        change: log10 of the evidence that traffic changed over the alarm's level; the alarm goes on at 0.
        mismatch: the same of the evidence that traffic never was like the calibration images.
        alarm: whether the alarm is on.
        alarm_changed: when it went on or off last, in seconds since the epoch; None if it never did.
        alarms: how often it went on.
        total_images, total_rejected: since the stream's beginning.
    """

    images: int
    seconds: float
    rejected: int
    rejection_rate: float | None
    rejection_interval: tuple[float, float]
    alpha: float
    uniformity: Uniformity
    change: float
    mismatch: float
    alarm: bool
    alarm_changed: float | None
    alarms: int
    total_images: int
    total_rejected: int

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of the HTTP interface."""
        return dataclasses.asdict(self)


class Monitor:
    """What follows from a stream of bin counts for one calibration set; pure, so any process can carry on.

    Args:
        reference: the calibration set's bins.
        alpha: the gate's.
        settings: window and false alarms.
    """

    def __init__(self, reference: Reference, alpha: float, settings: DriftSettings | None = None) -> None:
        self.settings = settings or DriftSettings()
        self.reference = reference
        self._alpha = alpha
        self._detector = Detector(reference, self.settings.requests_per_false_alarm)

    @property
    def bins(self) -> int:
        """B, how many counts a block of images has."""
        return len(self.reference.edges)

    def start(self) -> State:
        """Before the first image."""
        return State(0, 0, 0.0, (), self._detector.start())

    def after(self, state: State, now: float, counts: npt.NDArray[np.int64], rejected: int) -> State:
        """The state after another block of images.

        Args:
            state: before it.
            now: seconds since the epoch.
            counts: (B,) images in each bin.
            rejected: how many of them were rejected.
        """
        evidence = self._detector.after(state.evidence, counts)
        return State(
            images=state.images + int(counts.sum()),
            rejected=state.rejected + rejected,
            changed=now if evidence.alarm != state.evidence.alarm else state.changed,
            blocks=slide(state.blocks, self.settings.window, now, counts, rejected),
            evidence=evidence,
        )

    def report(self, state: State, now: float) -> Report:
        """What the state says at the time `now`."""
        blocks = young_blocks(state.blocks, self.settings.window, now)
        counts = total_counts(blocks, self.bins)
        images, rejected = int(counts.sum()), sum(block.rejected for block in blocks)
        return Report(
            images=images,
            seconds=max(0.0, now - blocks[0].start) if blocks else 0.0,
            rejected=rejected,
            rejection_rate=rejected / images if images else None,
            rejection_interval=clopper_pearson(rejected, images),
            alpha=self._alpha,
            uniformity=kolmogorov_smirnov(self.reference, counts),
            change=self._detector.change(state.evidence),
            mismatch=self._detector.mismatch(state.evidence),
            alarm=state.evidence.alarm,
            alarm_changed=state.changed or None,
            alarms=state.evidence.alarms,
            total_images=state.images,
            total_rejected=state.rejected,
        )

    def read(self, document: Any) -> State:
        """The state of a document of :meth:`State.to_dict`.

        Raises:
            ValueError: a document of another shape, such as another version's.
        """
        try:
            blocks = tuple(
                Block(
                    float(b["start"]), float(b["end"]), int(b["rejected"]), tuple(int(count) for count in b["counts"])
                )
                for b in document["blocks"]
            )
            evidence = document["evidence"]
            change = [-np.inf if gain is None else gain for gain in evidence["log_change"]]
            values = (evidence["urn"], evidence["recent"], change, evidence["log_mismatch"])
            urn, recent, log_change, log_mismatch = (np.array(value, dtype=np.float64) for value in values)
            state = State(
                images=int(document["images"]),
                rejected=int(document["rejected"]),
                changed=float(document["changed"]),
                blocks=blocks,
                evidence=Evidence(
                    urn, recent, log_change, log_mismatch, bool(evidence["alarm"]), int(evidence["alarms"])
                ),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a drift state ({type(error).__name__}: {error})") from error
        expected = self.start().evidence
        if any(len(block.counts) != self.bins for block in blocks) or _shapes(state.evidence) != _shapes(expected):
            raise ValueError(f"a drift state of another calibration set: expected {self.bins} bins")
        sound = [*(urn >= 0), *(recent >= 0), *(log_change < np.inf), *(log_mismatch < np.inf)]  # and no NaN
        if not all(sound):
            raise ValueError("a drift state with counts that are negative or no numbers")
        return state


def _shapes(evidence: Evidence) -> list[tuple[int, ...]]:
    return [array.shape for array in (evidence.urn, evidence.recent, evidence.log_change, evidence.log_mismatch)]
