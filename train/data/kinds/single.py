"""One image file."""

from __future__ import annotations

from pathlib import Path

from runtime.folder import is_image
from train.data.files import Extent, has_format
from train.data.index import Index, unlabelled
from train.data.options import Reading
from train.data.report import Report


def takes(path: Path) -> bool:
    """By its name or its first bytes."""
    return path.is_file() and (is_image(path.name) or has_format(Extent(str(path))))


def index(path: Path, reading: Reading, memory: int) -> Index:  # noqa: ARG001  there is nothing to choose
    """The one image, without a label."""
    return unlabelled([path.name], [Extent(str(path))], Report())
