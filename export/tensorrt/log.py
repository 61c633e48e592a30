"""What a builder tells while it works: its log, kept in memory, and how far it is, as a bar."""

from __future__ import annotations

from typing import Any

from tqdm import tqdm


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


def monitor(library: Any, title: str) -> Any:
    """An IProgressMonitor of a runtime's module that shows the outermost phase's steps and names the innermost."""

    class Monitor(library.IProgressMonitor):  # type: ignore[misc]  # the base is known at run time only
        def __init__(self) -> None:
            super().__init__()
            self.bar = tqdm(desc=title, unit="step", disable=None, leave=False)
            self.outermost: str | None = None

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            if parent is None:
                self.outermost = name
                self.bar.reset(steps)
            self.bar.set_postfix_str(name)

        def step_complete(self, name: str, step: int) -> bool:
            if name == self.outermost:
                self.bar.update(step + 1 - self.bar.n)
            return True

        def phase_finish(self, name: str) -> None:
            if name == self.outermost:
                self.bar.close()

    return Monitor()
