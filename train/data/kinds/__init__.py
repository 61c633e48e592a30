"""The kinds of sources, each a file: whether it takes a path, and how it lists the images there.

To add one, write its file with `takes` and `index`, add it to :data:`KINDS`, and its line to docs/data.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from train.data.index import Index
from train.data.kinds import folder, npy, npz, parquet, pattern, single, table, tar, zipped
from train.data.options import Reading
from train.exceptions import DataError


@dataclass(frozen=True)
class Kind:
    """One kind of source.

    Attributes:
        takes: whether a path is one, by its name and whether it is there.
        index: from the path, how to read and the bytes of memory that it may hold, to its images; DataError where it can't.
    """

    takes: Callable[[Path], bool]
    index: Callable[[Path, Reading, int], Index]


# The first that takes a path reads it.
KINDS = (
    Kind(folder.takes, folder.index),
    Kind(npz.takes, npz.index),
    Kind(npy.takes, npy.index),
    Kind(table.takes, table.index),
    Kind(parquet.takes, parquet.index),
    Kind(zipped.takes, zipped.index),
    Kind(single.takes, single.index),
    Kind(tar.takes, tar.index),
    Kind(pattern.takes, pattern.index),
)


def kind_of(path: Path) -> Kind:
    """What reads a path.

    Raises:
        DataError: nothing there.
    """
    for kind in KINDS:
        if kind.takes(path):
            return kind
    if path.exists():
        raise DataError(
            f"{path}: not a kind of file that is read: a tar or zip, a table (.csv, .tsv, .txt), .parquet, .npz, .npy, or an "
            "image"
        )
    raise DataError(f"{path}: no such directory, tar or .npz file, nor any other file, and no pattern that finds one")
