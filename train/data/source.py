"""What a source's name says: ``PATH`` or ``PATH@i/n``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from train.data import webdataset
from train.exceptions import DataError

_PART = re.compile(r"^(?P<path>.+)@(?P<index>\d+)/(?P<count>\d+)$")


@dataclass(frozen=True)
class Source:
    """The `index`-th (from 1) of `count` parts of the set at `path`."""

    path: Path
    index: int = 1
    count: int = 1


def parse(source: str) -> Source:
    """``/data/val.tar@1/2`` -> its path, 1 and 2.

    Raises:
        DataError: a part that does not exist, such as @3/2.
    """
    match = _PART.match(source)
    if not match:
        return Source(Path(source))
    index, count = int(match["index"]), int(match["count"])
    if not 1 <= index <= count:
        raise DataError(f"{source}: '@{index}/{count}' must be one of @1/{count} to @{count}/{count}")
    return Source(Path(match["path"]), index, count)


def check(source: str) -> None:
    """Make sure, before any work, that there is something to read.

    Raises:
        DataError: no such file or directory, or a part that does not exist.
    """
    path = parse(source).path
    if not path.exists() and not webdataset.shards(path):
        raise DataError(f"{path}: no such directory, tar or .npz file")


def short_name(source: str) -> str:
    """A source without its directories, for reports: ``/data/val.tar@1/2`` -> ``val.tar@1/2``."""
    parsed = parse(source)
    name = parsed.path.name
    return name if parsed.count == 1 else f"{name}@{parsed.index}/{parsed.count}"
