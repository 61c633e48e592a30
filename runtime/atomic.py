"""Files that change as a whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def replace(file: Path, data: bytes) -> None:
    """Write a file to a temporary sibling and rename it into place; a process killed meanwhile leaves the old one.

    Raises:
        OSError: it can't be written.
    """
    temporary = file.with_name(f".{file.name}.new-{os.getpid()}")
    try:
        temporary.write_bytes(data)
        temporary.replace(file)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
