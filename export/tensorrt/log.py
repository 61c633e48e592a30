"""The builder's log, kept in memory: errors become one line, and its account of the engine is read from it."""

from __future__ import annotations

from typing import Any


def recorder(library: Any) -> Any:
    """An ILogger of a runtime's module that keeps every message in `messages` and every error in `errors`."""

    class Recorder(library.ILogger):  # type: ignore[misc]  # the base is known at run time only
        def __init__(self) -> None:
            super().__init__()
            self.messages: list[str] = []
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            self.messages.append(message)
            if severity in (library.ILogger.ERROR, library.ILogger.INTERNAL_ERROR):
                self.errors.append(message)

    return Recorder()
