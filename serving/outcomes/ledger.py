"""Decisions that are remembered until their labels come, and the count of right and wrong answers, of all workers."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, NamedTuple

from serving.outcomes.report import Counts

logger = logging.getLogger("oodgate")

FLUSH = 1.0  # seconds between writes, and how much a worker that is killed forgets

_TOUCH = 3600.0  # seconds between signs that a file is in use
_FORGOTTEN = 86_400.0  # seconds since the last one

_WAIT = 5.0  # seconds for another worker's write

_SCHEMA = """
CREATE TABLE IF NOT EXISTS decisions (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    request TEXT NOT NULL,
    position INTEGER NOT NULL,
    answer TEXT NOT NULL,
    accepted INTEGER NOT NULL,
    decided REAL NOT NULL,
    settled INTEGER NOT NULL DEFAULT 0,
    UNIQUE (request, position) ON CONFLICT REPLACE
);
CREATE TABLE IF NOT EXISTS totals (answers INTEGER, errors INTEGER, rejected INTEGER);
INSERT INTO totals SELECT 0, 0, 0 WHERE NOT EXISTS (SELECT * FROM totals);
"""


class Settled(NamedTuple):
    """What an outcome said of a decision.

    Attributes:
        answer: the predicted class.
        accepted: whether it was given as the answer.
        right: whether it was the image's label.
    """

    answer: str
    accepted: bool
    right: bool


Refused = Literal["unknown", "settled"]


class Ledger:
    """Remembers the latest decisions, and settles each with its label, once.

    :meth:`remember` takes a microsecond and never touches the disk. Safe to use from several threads. A request's id that
    comes again stands for the later request, position by position.

    Args:
        path: an SQLite file on a local disk, the same for all workers; its directory is made. None keeps it in memory.
        capacity: how many decisions are remembered, the latest.
        seconds: how long.
        clock: seconds since the epoch.
    """

    def __init__(
        self, path: Path | None, capacity: int, seconds: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._capacity = capacity
        self._seconds = seconds
        self._clock = clock
        self._pending: deque[tuple[str, int, str, bool, float]] = deque(maxlen=capacity)
        self._lock = threading.Lock()
        self._file = _opened(path)
        self._path, self._touched = path, time.monotonic()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def remember(self, request: str, position: int, answer: str, accepted: bool) -> None:
        """Note a decision.

        Args:
            request: the request's id.
            position: of the image among the request's.
            answer: the predicted class, whatever the verdict.
            accepted: the verdict.
        """
        self._pending.append((request, position, answer, accepted, self._clock()))

    def settle(self, request: str, position: int, label: str | None) -> Settled | Refused:
        """Count the outcome of a decision.

        Args:
            request, position: as :meth:`remember` had them.
            label: the image's, a class of the model; None for none of them.

        Returns:
            why it is refused, if it is: no such decision is remembered, or it has its outcome.

        Raises:
            sqlite3.Error: the file can't be used.
        """
        self.flush()
        with self._transaction() as file:
            row = file.execute(
                "SELECT number, answer, accepted, settled FROM decisions WHERE request = ? AND position = ? AND decided >= ?",
                (request, position, self._clock() - self._seconds),
            ).fetchone()
            if row is None:
                return "unknown"
            number, answer, accepted, settled = row
            if settled:
                return "settled"
            right = answer == label
            file.execute("UPDATE decisions SET settled = 1 WHERE number = ?", (number,))
            file.execute(
                "UPDATE totals SET answers = answers + ?, errors = errors + ?, rejected = rejected + ?",
                (accepted, accepted and not right, not accepted),
            )
            return Settled(answer, bool(accepted), right)

    def counts(self) -> Counts:
        """The outcomes so far.

        Raises:
            sqlite3.Error: the file can't be used.
        """
        with self._lock:
            return Counts(*self._file.execute("SELECT answers, errors, rejected FROM totals").fetchone())

    def flush(self) -> None:
        """Write down what was remembered, and forget what is too old or too much.

        Raises:
            sqlite3.Error: the file can't be used; what was to be written waits for the next time.
        """
        if not self._pending:
            return
        rows: list[tuple[str, int, str, bool, float]] = []
        try:
            with self._transaction() as file:
                while self._pending:
                    rows.append(self._pending.popleft())
                file.executemany(
                    "INSERT INTO decisions (request, position, answer, accepted, decided) VALUES (?, ?, ?, ?, ?)", rows
                )
                file.execute(
                    "DELETE FROM decisions WHERE number <= (SELECT MAX(number) FROM decisions) - ? OR decided < ?",
                    (self._capacity, self._clock() - self._seconds),
                )
        except sqlite3.Error:
            self._pending.extendleft(reversed(rows))
            raise

    def start(self) -> None:
        """Flush every second, from a thread, until :meth:`close`."""
        self._thread = threading.Thread(target=self._run, name="oodgate-outcomes", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the thread, flush a last time and let go of the file."""
        self._stop.set()
        if self._thread:
            self._thread.join()
        self._try_flush()
        self._file.close()

    def _run(self) -> None:
        while not self._stop.wait(FLUSH):
            self._try_flush()
            if self._path and time.monotonic() > self._touched + _TOUCH:
                self._touched = time.monotonic()
                with suppress(OSError):
                    os.utime(self._path)  # in use, though nothing may come

    def _try_flush(self) -> None:
        try:
            self.flush()
        except sqlite3.Error as error:
            logger.error("decisions can't be remembered for their outcomes: %s", error)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """One writer at a time, among threads and among workers."""
        with self._lock:
            self._file.execute("BEGIN IMMEDIATE")
            try:
                yield self._file
            except BaseException:
                self._file.rollback()
                raise
            self._file.commit()


def forget_others(path: Path) -> None:
    """Delete the files beside `path` of bundles that no worker has served for a day: their volume is small."""
    for other in path.parent.glob("outcomes-*.sqlite*"):
        with suppress(OSError):  # another worker was first
            if not other.name.startswith(path.name) and other.stat().st_mtime < time.time() - _FORGOTTEN:
                other.unlink()


def _opened(path: Path | None) -> sqlite3.Connection:
    """The file with its tables; one that is damaged is replaced."""
    if path is None:
        return _connected(":memory:")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _connected(str(path))
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        logger.error("the file of outcomes is unusable and starts afresh: %s", error)
        path.unlink(missing_ok=True)
        return _connected(str(path))


def _connected(name: str) -> sqlite3.Connection:
    file = sqlite3.connect(name, timeout=_WAIT, isolation_level=None, check_same_thread=False)
    try:
        file.execute("PRAGMA synchronous = OFF")  # the operating system writes it; only its own crash would lose any
        file.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
    except BaseException:
        file.close()
        raise
    return file
