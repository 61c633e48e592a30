"""What native libraries write does not reach the process's standard error, and Python's own words still do."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runtime import native

ROOT = Path(__file__).resolve().parents[2]

LOUD = """
import logging, os, sys, threading, time
logging.basicConfig(level=logging.INFO, format="%(message)s")
from runtime import native
native.settle()
native.settle()

def shout():
    for _ in range(400):
        try:
            os.write(2, b"noise\\x1b[0m\\n" * 500)
        except BlockingIOError:
            pass

threads = [threading.Thread(target=shout) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
time.sleep(0.3)
print("by print", file=sys.stderr)
logging.getLogger("other").info("by a logger of before")
sys.__stderr__.flush()
"""


def test_a_flood_on_descriptor_2_becomes_one_line() -> None:
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", LOUD], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    assert sorted(lines)[:2] == ["by a logger of before", "by print"]
    (told,) = sorted(lines)[2:]
    assert told.startswith("native libraries wrote ")
    assert "beginning: noise" in told
    assert "\x1b" not in told
    assert len(told) < 600
    assert time.monotonic() - started < 20


def test_a_library_does_not_wait_for_a_reader_that_has_no_turn() -> None:
    """Pillow holds Python's lock while libtiff reads tags: a full pipe that blocked would stop the process for good."""
    program = (
        "import ctypes, os\nfrom runtime import native\nnative.divert_stderr()\n"
        "write = ctypes.PyDLL(None).write\n"  # keeps the lock
        "print(sum(write(2, b'x' * 4096, 4096) == 4096 for _ in range(1000)) < 1000)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=20
    )
    assert done.stdout.strip() == "True"


@pytest.mark.skipif(
    "glibc" not in os.confstr("CS_GNU_LIBC_VERSION") if hasattr(os, "confstr") else True, reason="glibc"
)
def test_freed_memory_goes_back_to_the_system() -> None:
    program = "from runtime import native\nprint(native.return_memory())"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_another_libc_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native.ctypes, "CDLL", lambda _: object())
    assert not native.return_memory()
