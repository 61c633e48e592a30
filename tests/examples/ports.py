"""What ports of the gate replay: the shipped bundle with its golden images and the graph that resizes."""

from __future__ import annotations

import shutil
from pathlib import Path

from export.pipeline.__main__ import main
from runtime.golden.document import Golden, read

from runtime.bundle import Bundle

SHIPPED = Path(__file__).resolve().parents[2] / "bundles" / "cifar10"


def portable(path: Path) -> Path:
    """A copy of the shipped bundle at `path`."""
    shutil.copytree(SHIPPED, path)
    assert main([str(path), "--threads", "1"]) == 0
    return path


def golden(path: Path) -> Golden:
    found = read(Bundle.load(path))
    assert found is not None
    return found
