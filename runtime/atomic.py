"""Files and directories that change as a whole or not at all, and one process at a time."""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def check_writable(folder: Path, mode: int = 0o777) -> None:
    """Make a folder if it is not there, with all above it, and a file in it that is gone at once.

    Raises:
        OSError: it can't be made or written.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=mode)
    with tempfile.TemporaryFile(dir=folder):
        pass


def replace(file: Path, data: bytes) -> None:
    """Write a file to a temporary sibling and rename it into place; a process killed meanwhile leaves the old one.

    Raises:
        OSError: it can't be written.
    """
    with writing(file) as temporary:
        temporary.write_bytes(data)


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A temporary sibling to write a file or make a directory at, which is renamed into place when all went well.

    A file is replaced in one step. What a directory replaces is renamed away first and deleted last: a process killed
    between the two renames leaves it beside `path`, as ``.NAME.old-PID``. What a process of the same number has left
    there is deleted first.

    Raises:
        OSError: it can't be written; what was there is still there.
    """
    temporary = path.with_name(f".{path.name}.new-{os.getpid()}")
    replaced = path.with_name(f".{path.name}.old-{os.getpid()}")
    _remove(temporary)
    try:
        yield temporary
        if temporary.is_dir() and path.exists():
            _remove(replaced)
            path.rename(replaced)
        temporary.replace(path)
    finally:
        if replaced.exists() and not path.exists():
            replaced.rename(path)
        _remove(temporary)
        _remove(replaced)


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Wait for this process's, and this thread's, turn at what `file` stands for; it is made where it is missing.

    On Windows nobody waits.

    Raises:
        OSError: the file can't be made.
    """
    with file.open("ab") as lock:
        try:
            import fcntl
        except ImportError:
            pass
        else:
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def tidy(path: Path) -> None:
    """Delete what processes that were killed while :func:`writing` `path` have left; only where none can be at it now."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.new-*"):
        _remove(left)


def _remove(path: Path) -> None:
    """Delete a file or a directory, if it is there and can be."""
    shutil.rmtree(path, ignore_errors=True)
    if path.is_file():
        path.unlink()
