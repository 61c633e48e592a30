"""Time by stage: functions that are wrapped add what they take, less what wrapped ones inside them take."""

from __future__ import annotations

import functools
import threading
from collections import defaultdict
from collections.abc import Callable
from time import perf_counter_ns, thread_time_ns
from typing import Any


class Clock:
    """Adds up, by stage, the time on the clock and the processor's, both in nanoseconds, of all threads."""

    def __init__(self) -> None:
        self._own = threading.local()
        self._threads: list[dict[str, list[int]]] = []
        self.waits: dict[str, int] = defaultdict(int)

    def wrap(self, owner: Any, name: str, stage: str) -> None:
        """Time a function where it is looked up: an attribute of a module or of a class."""
        setattr(owner, name, self.timed(getattr(owner, name), stage))

    def timed(self, function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapped(*args: Any, **options: Any) -> Any:
            stack, totals = self._of_thread()
            inside = [0, 0]
            stack.append(inside)
            start, used = perf_counter_ns(), thread_time_ns()
            try:
                return function(*args, **options)
            finally:
                passed, spent = perf_counter_ns() - start, thread_time_ns() - used
                stack.pop()
                total = totals[stage]
                total[0] += passed - inside[0]
                total[1] += spent - inside[1]
                if stack:
                    stack[-1][0] += passed
                    stack[-1][1] += spent

        return wrapped

    def timed_steps(self, function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        """Time a coroutine that never waits."""

        async def wrapped(*args: Any, **options: Any) -> Any:
            def run() -> Any:
                try:
                    function(*args, **options).send(None)
                except StopIteration as end:
                    return end.value
                raise RuntimeError(f"{stage} waited")

            return self.timed(run, stage)()

        return wrapped

    def wait(self, stage: str, seconds: float) -> None:
        """Note time that passed between two stages; of one thread only."""
        self.waits[stage] += round(1e9 * seconds)

    def taken(self) -> dict[str, tuple[int, int]]:
        """Nanoseconds on the clock and of the processor by stage, since the last time."""
        found: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for totals in self._threads:
            for stage, (passed, spent) in list(totals.items()):
                found[stage][0] += passed
                found[stage][1] += spent
                totals[stage] = [0, 0]
        return {stage: (passed, spent) for stage, (passed, spent) in found.items()}

    def _of_thread(self) -> tuple[list[list[int]], dict[str, list[int]]]:
        if not hasattr(self._own, "stack"):
            self._own.stack, self._own.totals = [], defaultdict(lambda: [0, 0])
            self._threads.append(self._own.totals)
        return self._own.stack, self._own.totals
