"""SIGINT and SIGTERM as an event, so that whoever they are for can finish what is in hand."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def asked_to_end() -> Iterator[threading.Event]:
    """An event that SIGINT or SIGTERM sets; in another thread than the main one, which gets no signals, nothing does."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    handler: Callable[..., None] = lambda *_: asked.set()  # noqa: E731
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, old in before.items():
            signal.signal(number, old)
