"""Decisions remembered until their labels come: counted once, by whatever worker, within bounds."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from serving.outcomes.ledger import Ledger, Settled
from serving.outcomes.report import Counts


@dataclass
class Clock:
    now: float = 1e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["file", "memory"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "drift" / "outcomes.sqlite" if request.param == "file" else None, 10, 60, clock)
    yield ledger
    ledger.close()


def test_an_outcome_is_counted_once(ledger: Ledger) -> None:
    ledger.remember("a", 0, "cat", True)
    ledger.remember("a", 1, "dog", True)
    ledger.remember("b", 0, "cat", False)
    assert ledger.settle("a", 0, "cat") == Settled("cat", True, True)
    assert ledger.settle("a", 1, None) == Settled("dog", True, False)
    assert ledger.settle("b", 0, "cat") == Settled("cat", False, True)
    assert ledger.counts() == Counts(answers=2, errors=1, rejected=1)
    for request, position, label in (("a", 0, "cat"), ("a", 0, "dog"), ("b", 0, None)):
        assert ledger.settle(request, position, label) == "settled"
    assert ledger.counts() == Counts(2, 1, 1)


@pytest.mark.parametrize(("request_id", "position"), [("a", 1), ("", 0), ("b", 0), ("a' OR 1=1 --", 0)])
def test_what_was_never_decided_is_unknown(ledger: Ledger, request_id: str, position: int) -> None:
    ledger.remember("a", 0, "cat", True)
    assert ledger.settle(request_id, position, "cat") == "unknown"
    assert ledger.counts() == Counts()


def test_only_the_latest_are_remembered(ledger: Ledger) -> None:
    for i in range(25):
        ledger.remember(f"r{i}", 0, "cat", True)
        ledger.flush()
    assert [i for i in range(25) if ledger.settle(f"r{i}", 0, "cat") != "unknown"] == list(range(15, 25))
    for i in range(30):  # none of them written yet
        ledger.remember(f"s{i}", 0, "cat", True)
    assert [i for i in range(30) if ledger.settle(f"s{i}", 0, "cat") != "unknown"] == list(range(20, 30))


def test_the_old_are_forgotten_and_their_outcomes_stay(ledger: Ledger, clock: Clock) -> None:
    ledger.remember("a", 0, "cat", True)
    ledger.remember("b", 0, "cat", True)
    clock.now += 59
    assert isinstance(ledger.settle("a", 0, "dog"), Settled)
    clock.now += 2
    assert ledger.settle("b", 0, "cat") == "unknown"
    assert ledger.counts() == Counts(1, 1, 0)


def test_an_id_that_comes_again_is_the_later_request(ledger: Ledger) -> None:
    ledger.remember("a", 0, "cat", True)
    assert ledger.settle("a", 0, "cat") == Settled("cat", True, True)
    ledger.remember("a", 0, "dog", True)
    assert ledger.settle("a", 0, "cat") == Settled("dog", True, False)
    assert ledger.counts() == Counts(2, 1, 0)


def test_workers_share_decisions_and_counts(tmp_path: Path) -> None:
    first, second = (Ledger(tmp_path / "outcomes.sqlite", 1000, 60) for _ in range(2))
    for i in range(200):
        (first, second)[i % 2].remember(f"r{i}", 0, "cat", True)
    first.flush()
    second.flush()
    found: list[object] = []

    def settle(ledger: Ledger) -> None:
        found.extend(ledger.settle(f"r{i}", 0, "dog") for i in range(200))

    threads = [threading.Thread(target=settle, args=(ledger,)) for ledger in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(result, Settled) for result in found) == 200  # each is counted by one of the two
    assert found.count("settled") == 200
    assert first.counts() == second.counts() == Counts(200, 200, 0)
    first.close()
    second.close()


def test_a_thread_writes_down_what_was_remembered(tmp_path: Path) -> None:
    ledger, other = (Ledger(tmp_path / "outcomes.sqlite", 10, 60) for _ in range(2))
    ledger.start()
    ledger.remember("a", 0, "cat", True)
    deadline = time.monotonic() + 5
    while (found := other.settle("a", 0, "cat")) == "unknown" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert found == Settled("cat", True, True)
    ledger.remember("b", 0, "cat", True)
    ledger.close()  # writes the last ones
    assert other.settle("b", 0, "cat") == Settled("cat", True, True)
    other.close()


def test_counts_outlive_the_workers(tmp_path: Path) -> None:
    for errors in (1, 2):
        ledger = Ledger(tmp_path / "outcomes.sqlite", 10, 60)
        ledger.remember("a", 0, "cat", True)
        ledger.settle("a", 0, "dog")
        assert ledger.counts() == Counts(errors, errors, 0)
        ledger.close()


def test_a_damaged_file_starts_afresh(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "outcomes.sqlite"
    path.write_bytes(b"no database" * 1000)
    ledger = Ledger(path, 10, 60)
    assert "the file of outcomes is unusable and starts afresh" in caplog.text
    ledger.remember("a", 0, "cat", True)
    assert ledger.settle("a", 0, "cat") == Settled("cat", True, True)
    ledger.close()


def test_what_can_not_be_written_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.outcomes.ledger._WAIT", 0.05)
    path = tmp_path / "outcomes.sqlite"
    ledger = Ledger(path, 10, 60)
    ledger.remember("a", 0, "cat", True)
    ledger.remember("b", 0, "dog", True)
    busy = sqlite3.connect(path, isolation_level=None)
    busy.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        ledger.settle("a", 0, "cat")
    busy.execute("COMMIT")
    busy.close()
    assert ledger.settle("a", 0, "cat") == Settled("cat", True, True)
    assert ledger.settle("b", 0, "dog") == Settled("dog", True, True)
    ledger.close()
