"""A table of images and their labels: a .csv, .tsv or .txt file."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

from train.data.files import Extent, File
from train.data.index import Index
from train.data.labels.rows import of_rows
from train.data.options import Reading
from train.exceptions import DataError

_ENDINGS = (".csv", ".tsv", ".txt", ".lst")


def takes(path: Path) -> bool:
    """By its name."""
    return path.is_file() and path.suffix.lower() in _ENDINGS


def index(path: Path, reading: Reading, memory: int) -> Index:  # noqa: ARG001  what is read is what is used
    """The images that the table lists, by paths from its folder.

    Raises:
        DataError: as :func:`train.data.labels.rows.of_rows`.
    """
    folder = str(path.parent)

    def find(name: str) -> File | None:
        for form in (name, unicodedata.normalize("NFD", name), name.replace("\\", "/")):
            where = os.path.join(folder, form)  # noqa: PTH118  ten times as fast as a path
            if os.path.isfile(where):  # noqa: PTH113  likewise
                return Extent(where)
        return None

    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: not readable ({error.strerror})") from error
    return of_rows(str(path), data, find, reading)
