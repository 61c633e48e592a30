"""A table of images and their labels: a .csv, .tsv or .txt file."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath

from train.data.files import Extent, File
from train.data.index import Index
from train.data.labels.class_names import Row
from train.data.labels.rows import of_rows
from train.data.labels.text import text
from train.data.options import Reading
from train.exceptions import DataError

_ENDINGS = (".csv", ".tsv", ".txt", ".lst")
_LISTS, _IMAGES = "benchmark_imglist", "images_*"  # beside each other: OpenOOD's lists, and the images that they name


def takes(path: Path) -> bool:
    """By its name."""
    return path.is_file() and path.suffix.lower() in _ENDINGS


def index(path: Path, reading: Reading, memory: int) -> Index:  # noqa: ARG001  what is read is what is used
    """The images that the table lists, by paths from its folder; of OpenOOD's lists, from its folders of images.

    Raises:
        DataError: as :func:`train.data.labels.rows.of_rows`.
    """
    folders = _folders(path)

    def find(name: str) -> File | None:
        for form in dict.fromkeys((name, unicodedata.normalize("NFD", name), name.replace("\\", "/"))):
            for folder in folders:
                where = os.path.join(folder, form)  # noqa: PTH118  ten times as fast as a path
                if os.path.isfile(where):  # noqa: PTH113  likewise
                    return Extent(where)
        return None

    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: not readable ({error.strerror})") from error
    return _named(path, of_rows(str(path), data, find, reading, where=" or ".join(folders)))


def _folders(path: Path) -> list[str]:
    """Where the images of a table lie: those of ``ROOT/benchmark_imglist/cifar10/test_tin.txt`` in ``ROOT/images_*``."""
    lists = path.absolute().parent.parent
    if lists.name == _LISTS and (roots := sorted(map(str, lists.parent.glob(_IMAGES)))):
        return roots
    return [str(path.parent)]


def _named(path: Path, index: Index) -> Index:
    """The images with what classes that a table numbers are called, by its folders or those of OpenOOD's known images."""
    if index.labels.ndim != 1 or not index.classes or not all(map(str.isdecimal, index.classes)):
        return index
    rows = [(index.classes[label], name) for name, label in zip(index.names, index.labels, strict=True)]
    return replace(index, synonyms=_by_folder(rows) or _by_folder(_known(path.absolute())))


def _known(path: Path) -> list[tuple[str, str]]:
    """Numbers and paths in the list of known images beside one of OpenOOD's lists; none beside other tables."""
    beside = path.with_name(f"test_{path.parent.name}.txt")
    if path.parent.parent.name != _LISTS or not beside.is_file():
        return []
    pairs = (line.rpartition(" ") for line in text(str(beside), beside.read_bytes()).split("\n"))
    return [(number, name) for name, _, number in pairs if number.isdecimal()]


def _by_folder(rows: Iterable[tuple[str, str]]) -> tuple[Row, ...]:
    """What numbers are called, where the images of each, and of no other, lie in a folder of a name.

    Args:
        rows: a number and a path for each image.
    """
    pairs = {(number, PurePosixPath(name.replace("\\", "/")).parent.name) for number, name in rows}
    numbers, folders = {number for number, _ in pairs}, {folder for _, folder in pairs}
    told = len(pairs) == len(numbers) == len(folders) and "" not in folders and not any(map(str.isdecimal, folders))
    return tuple(sorted(pairs)) if told else ()
