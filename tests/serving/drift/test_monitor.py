from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from scipy import stats

from serving.drift.monitor import DriftSettings, Monitor, State
from serving.drift.reference import Reference
from serving.drift.window import WindowSize

REFERENCE = Reference(edges=np.array([0.05, 0.5, 1.0]), slots=np.array([10.0, 90.0, 100.0]))
MONITOR = Monitor(REFERENCE, 0.05, DriftSettings(WindowSize(1000, 600.0), 1e6))


def after(*blocks: list[int], monitor: Monitor = MONITOR) -> State:
    """The state after blocks of images a second apart, all of the first bin rejected."""
    state = monitor.start()
    for now, counts in enumerate(blocks):
        state = monitor.after(state, 1000.0 + now, np.array(counts), counts[0])
    return state


def test_report() -> None:
    report = MONITOR.report(after([2, 20, 28], [3, 22, 25]), 1005.0)
    assert (report.images, report.rejected, report.rejection_rate) == (100, 5, 0.05)
    interval = stats.binomtest(5, 100).proportion_ci(0.95, "exact")
    assert report.rejection_interval == pytest.approx((interval.low, interval.high))
    assert report.alpha == 0.05
    assert report.seconds == 5.0
    assert report.uniformity.statistic == pytest.approx(0.03)  # 0.47 of them at most 0.5
    assert -6 < report.change < 0
    assert -4 < report.mismatch < -2
    assert (report.alarm, report.alarm_changed, report.alarms) == (False, None, 0)
    assert (report.total_images, report.total_rejected) == (100, 5)
    json.dumps(report.to_dict(), allow_nan=False)


def test_before_the_first_image() -> None:
    report = MONITOR.report(MONITOR.start(), 1.0)
    assert (report.images, report.seconds, report.rejection_rate) == (0, 0.0, None)
    assert report.rejection_interval == (0.0, 1.0)
    assert (report.change, report.mismatch) == pytest.approx((-6, -3))
    json.dumps(report.to_dict(), allow_nan=False)


def test_the_window_forgets_and_the_totals_do_not() -> None:
    report = MONITOR.report(after([5, 45, 50]), 2000.0)
    assert (report.images, report.total_images, report.total_rejected) == (0, 100, 5)


def test_an_alarm_and_its_time() -> None:
    report = MONITOR.report(after([5, 45, 50], [90, 5, 5], [90, 5, 5]), 1010.0)
    assert (report.alarm, report.alarms) == (True, 1)
    assert report.alarm_changed == 1001.0
    assert report.change >= 0
    assert report.mismatch >= 0


def test_the_state_survives_json() -> None:
    for state in (MONITOR.start(), after([5, 45, 50]), after([5, 45, 50], [90, 5, 5])):
        again = MONITOR.read(json.loads(json.dumps(state.to_dict(), allow_nan=False)))
        assert again.to_dict() == state.to_dict()
        block = np.array([1, 2, 3])
        assert MONITOR.after(again, 2000.0, block, 1).to_dict() == MONITOR.after(state, 2000.0, block, 1).to_dict()


def damaged(*keys: str, value: Any) -> dict[str, Any]:
    document = json.loads(json.dumps(after([5, 45, 50]).to_dict()))
    inner: Any = document
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    return dict(document)


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        "state",
        {},
        damaged("blocks", value=3),
        damaged("blocks", value=[{"start": 0, "end": 0, "rejected": 0}]),
        damaged("blocks", value=[{"start": 0, "end": 0, "rejected": 0, "counts": [1, 2]}]),
        damaged("images", value="many"),
        damaged("evidence", value={}),
        damaged("evidence", "urn", value=[1.0, 2.0]),
        damaged("evidence", "urn", value=[1.0, 2.0, -3.0]),
        damaged("evidence", "urn", value=[1.0, 2.0, None]),
        damaged("evidence", "recent", value=[[1.0], [2.0], [3.0]]),
        damaged("evidence", "log_change", value=[0.0]),
        damaged("evidence", "log_mismatch", value=[None] * 11),
        damaged("evidence", "log_mismatch", value=[1e999] * 11),
    ],
)
def test_a_damaged_state_is_refused(document: Any) -> None:
    with pytest.raises(ValueError, match="drift state"):
        MONITOR.read(document)
