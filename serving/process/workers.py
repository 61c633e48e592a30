"""The end of workers: what the log says of one that ended by itself, and that none outlives the process that started it."""

from __future__ import annotations

import ctypes
import logging
import os
import signal

logger = logging.getLogger("oodgate")

REFUSED = 3
"""The exit status of a worker that can't serve what it is asked to."""

_PR_SET_PDEATHSIG = 1  # of Linux's prctl.h

_ASKED = (0, -signal.SIGTERM, -signal.SIGINT)

_REASONS = {
    "SIGKILL": "killed: by the kernel for want of memory, unless somebody else did it",
    "SIGBUS": "a mapped file could not be written: the volume of BENTOML_HOME, where the metrics are, is full",
    "SIGSEGV": "a fault in native code: a decoder, or the engine",
    "SIGABRT": "a fault in native code: a decoder, or the engine",
}


def log_end(pid: int, code: int) -> None:
    """One line on a worker that was not asked to end.

    Args:
        pid: of the worker.
        code: its exit status, or minus the signal that ended it.
    """
    if code in _ASKED:
        return
    if code > 0:
        logger.error("worker %d ended with status %d; the lines before say why", pid, code)
        return
    name = signal.Signals(-code).name
    logger.error("worker %d was ended by %s, %s", pid, name, _REASONS.get(name, "which nobody here sends"))


def end_with_parent(parent: int) -> bool:
    """Have this process asked to end when the one that started it does, however it does: nobody else would, and the port
    would stay taken.

    Args:
        parent: the process that started this one.

    Returns:
        Whether this system can.

    Raises:
        SystemExit: the parent has ended already.
    """
    try:
        prctl = ctypes.CDLL(None).prctl
    except (OSError, AttributeError, TypeError):  # no Linux
        return False
    can = bool(prctl(_PR_SET_PDEATHSIG, signal.SIGTERM) == 0)
    if os.getppid() != parent:
        raise SystemExit(REFUSED)
    return can
