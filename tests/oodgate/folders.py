"""A folder of a user's own."""

from __future__ import annotations

from pathlib import Path


def hostile(path: Path) -> Path:
    """`path` with modules that have the names of our packages and raise when they are imported."""
    for name in ("train.py", "export.py", "runtime/__init__.py", "serving.py"):
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text(f"raise RuntimeError('{name} of the user was imported')\n")
    return path
