"""A small JSON document that processes change in turns, whole at any moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson


class StateFile:
    """One document, on a local disk.

    The lock ends with the process that holds it. A document is replaced by a rename, so a reader or a process that
    follows a crash finds the old one or the new one.

    Args:
        path: of the document; its directory is made. The lock and the temporary file lie beside it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = path.with_name(f".{path.name}.lock")
        self._new = path.with_name(f".{path.name}.new")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Wait for this process's turn.

        Raises:
            OSError: the directory can't be written.
        """
        import fcntl  # not on Windows, where one worker shares with nobody

        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock.open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def read(self) -> Any:
        """The document; None when there is none yet.

        Raises:
            OSError: it can't be read.
            ValueError: not JSON.
        """
        try:
            return orjson.loads(self._path.read_bytes())
        except FileNotFoundError:
            return None

    def write(self, document: Any) -> None:
        """Replace the document, in one's turn.

        Raises:
            OSError: it can't be written.
        """
        with self._new.open("wb") as file:
            file.write(orjson.dumps(document))
        self._new.replace(self._path)
