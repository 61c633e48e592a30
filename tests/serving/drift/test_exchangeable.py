"""The whole path from a gate's scores to the alarm, on traffic that is like the calibration images: it rings no more often
than promised, whatever the gate and the scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from export.calibrate.calibration import calibrate
from export.detectors.combined import merged
from runtime.decision import Decision, GateScore, ModelRef
from runtime.manifest import GateSpec, Manifest, Merged, ModelSpec
from runtime.rule import Rule
from serving.deciding.listeners import watcher
from serving.deciding.served import Decided
from serving.drift import monitor
from serving.drift.monitor import DriftSettings, Report
from serving.drift.watch import DriftWatch
from tests.small import SPEC

MODEL = ModelRef("small", "0" * 64)

ALPHA = 0.2  # for which four images of a class are enough
CLASSES = 10
LABELS = tuple("abcdefghij")
IMAGES, BLOCK, STREAMS = 1000, 100, 16
SIZES = (50, 100, 300, 1000)
PROMISED = 0.2  # of the streams ring, at most: IMAGES / requests_per_false_alarm


class Drawn(NamedTuple):
    """Gate scores of in-distribution images (N,), and the classes that they are predicted as (N,)."""

    scores: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]


Draw = Callable[[np.random.Generator, int], Drawn]


def continuous(rng: np.random.Generator, n: int) -> Drawn:
    classes = rng.integers(0, CLASSES, n)
    return Drawn(rng.normal(classes / 4).astype(np.float32), classes)


def tied(rng: np.random.Generator, n: int) -> Drawn:
    """Some twelve different scores."""
    drawn = continuous(rng, n)
    return drawn._replace(scores=np.round(drawn.scores * 2) / 2)


def saturated(rng: np.random.Generator, n: int) -> Drawn:
    """A third of the scores are the largest that there is, as of a softmax."""
    drawn = continuous(rng, n)
    return drawn._replace(scores=np.minimum(drawn.scores, np.float32(1.3)))


def constant(rng: np.random.Generator, n: int) -> Drawn:
    return continuous(rng, n)._replace(scores=np.ones(n, dtype=np.float32))


def merged_by(curves: Merged) -> Draw:
    """Two correlated scores, merged."""

    def draw(rng: np.random.Generator, n: int) -> Drawn:
        drawn = continuous(rng, n)
        other = drawn.scores + rng.normal(size=n).astype(np.float32)
        together = merged.merge({"msp": drawn.scores, "energy": other}, curves)
        return drawn._replace(scores=together.astype(np.float32))

    return draw


REFERENCE = np.random.default_rng(9).normal(size=(60, 2)).astype(np.float32)  # set no threshold
MERGED = merged_by(merged.fit(REFERENCE, ("msp", "energy"), "min"))


def gate_of(calibrating: Drawn, conditional: bool) -> GateSpec:
    manifest = Manifest(ModelSpec("small", "net", "none", 10, 8), "multiclass", LABELS, SPEC, ("energy",))
    classes = calibrating.classes if conditional else None
    fitted = calibrate(manifest, calibrating.scores[:, None], "energy", ALPHA, classes=classes)
    assert fitted.gate is not None
    return fitted.gate


def decided(rule: Rule, traffic: Drawn) -> Iterator[Decided]:
    """What a service finds out about images."""
    thresholds = rule.thresholds(traffic.classes)
    for score, top, threshold in zip(*(column.tolist() for column in (*traffic, thresholds)), strict=True):
        found = GateScore("energy", score, threshold, rule.p_value(score, top))
        verdict = Decision("accept" if score >= threshold else "reject", None, top, 1.0, found, {}, MODEL)
        yield Decided(verdict, verdict, b"", "")


def rings(draw: Draw, conditional: bool, n: int, rng: np.random.Generator) -> tuple[bool, bool]:
    """Whether a stream of in-distribution images raises the alarm, and whether for mismatch with calibration."""
    gate = gate_of(draw(rng, n), conditional)
    rule = Rule(LABELS, ("energy",), gate)
    reports: list[Report] = []
    settings = DriftSettings(requests_per_false_alarm=IMAGES / PROMISED)
    drift = DriftWatch.of_gate(gate, "0" * 64, settings, on_report=reports.append)
    watch = watcher(rule, drift)
    for i, each in enumerate(decided(rule, draw(rng, IMAGES)), 1):
        watch(each)
        if i % BLOCK == 0:
            drift.flush()
    first = next((report for report in reports if report.alarm), None)
    return first is not None, first is not None and first.mismatch >= 0


@pytest.mark.parametrize(
    ("draw", "conditional"),
    [(continuous, False), (continuous, True), (tied, True), (saturated, True), (constant, True), (MERGED, True)],
    ids=["one threshold", "class-conditional", "tied", "saturated", "constant", "merged"],
)
def test_false_alarms_are_no_more_than_promised(draw: Draw, conditional: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each number of calibration images at most a fifth of the streams rings; by chance more than `most`, one in 100."""
    monkeypatch.setattr(monitor, "clopper_pearson", lambda *_: (0.0, 1.0))  # which is slow, and no alarm looks at it
    most = int(stats.binom.ppf(0.99, STREAMS, PROMISED))
    for n in SIZES:
        found = [rings(draw, conditional, n, np.random.default_rng([n, stream])) for stream in range(STREAMS)]
        alarms, mismatches = np.sum(found, axis=0)
        assert alarms <= most, n
        assert mismatches == 0, n
