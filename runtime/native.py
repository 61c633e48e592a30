"""What native libraries do to a whole process: write to its standard error, and keep memory that they gave back.

libtiff, libpng and libjpeg report to file descriptor 2 whatever a hostile file makes them say, megabytes of it, and no
setting of Pillow's reaches them. A service calls :func:`settle` once, at its start.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import logging
import os
import sys
import threading
import time
from typing import TextIO

logger = logging.getLogger("oodgate")

_SHOWN = 500  # characters of what was written that a line of the log quotes
_PERIOD = 60.0  # seconds between such lines

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # of glibc's malloc.h
_LARGE = 1024 * 1024  # bytes; blocks of this size go back to the system as they are freed
_ARENAS = 2

_settled = threading.Lock()


def settle() -> None:
    """Keep native libraries' words out of this process's log, and their memory within what is in use. Once is enough."""
    if not _settled.acquire(blocking=False):
        return
    return_memory()
    with contextlib.suppress(OSError):  # no standard error to speak of
        divert_stderr()


def divert_stderr() -> None:
    """Give Python's standard error a descriptor of its own, and what libraries write to number 2 to a bounded reader.

    The reader logs the first words at most once a minute, and how much there was. The pipe does not block: what the
    reader is too slow for is dropped, and no library waits for it.
    """
    before = sys.stderr
    own = os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before.flush()
    os.dup2(writing, 2)
    os.close(writing)
    sys.stderr = own
    _redirect_loggers(before, own)
    if faulthandler.is_enabled():
        faulthandler.enable(own)
    threading.Thread(target=_read, args=(reading,), name="native stderr", daemon=True).start()


def return_memory() -> bool:
    """Make glibc give back what is freed: by default each thread has an arena, and large blocks stay in them for good.

    Returns:
        Whether there was a glibc that took the settings.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # another libc, or another system
        return False
    settings = ((_M_ARENA_MAX, _ARENAS), (_M_MMAP_THRESHOLD, _LARGE), (_M_TRIM_THRESHOLD, _LARGE))
    taken = [bool(mallopt(name, value)) for name, value in settings]
    return all(taken)


def _redirect_loggers(before: TextIO, own: TextIO) -> None:
    """Handlers that were made earlier hold the stream that has become the libraries'."""
    loggers = [logging.getLogger(), *(logging.getLogger(name) for name in list(logging.root.manager.loggerDict))]
    for handler in {handler for one in loggers for handler in one.handlers}:
        if isinstance(handler, logging.StreamHandler) and handler.stream in (before, sys.__stderr__):
            handler.setStream(own)


def _read(descriptor: int) -> None:
    last, count, first = -_PERIOD, 0, b""
    while block := os.read(descriptor, 65536):
        count += len(block)
        first = first or block[:_SHOWN]
        if (now := time.monotonic()) - last >= _PERIOD:
            words = "".join(c if c.isprintable() else " " for c in first.decode("utf-8", "replace"))
            logger.warning("native libraries wrote %d bytes to standard error, beginning: %s", count, words)
            last, count, first = now, 0, b""
