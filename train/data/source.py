"""What a source's name says, ``PATH`` or ``PATH@i/n``, and which images are its i-th part."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from train.data.image_set import ImageSet
from train.data.index import Labels
from train.data.kinds import kind_of
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


def check(source: str | ImageSet) -> None:
    """Make sure, before any work, that there is something to read.

    Raises:
        DataError: no such file or directory, or a part that does not exist.
    """
    if isinstance(source, str):
        kind_of(parse(source).path)


def short_name(source: str | ImageSet) -> str:
    """A source without its directories, for reports: ``/data/val.tar@1/2`` -> ``val.tar@1/2``."""
    if not isinstance(source, str):
        return "images in memory"
    parsed = parse(source)
    name = parsed.path.name
    return name if parsed.count == 1 else f"{name}@{parsed.index}/{parsed.count}"


def part(names: Sequence[str], labels: Labels, index: int, count: int) -> npt.NDArray[np.intp]:
    """Positions, ascending, of the `index`-th (from 1) of `count` parts.

    Args:
        names: N image names, whose SHA-256 decides.
        labels: int64 [N]: the parts are of every class, and of one size where classes have fewer images than there are parts
            too; bool [N, K]: of all images.
        index, count: which part, of how many.
    """
    if count == 1:
        return np.arange(len(names))
    flat = len({name.rpartition("/")[0] for name in names}) == 1  # one folder, or the archive of one
    shuffled = np.array(sorted(range(len(names)), key=lambda i: (_lot(names[i], flat), names[i])), dtype=np.intp)
    groups = labels[shuffled] if labels.ndim == 1 else np.zeros(len(names), dtype=np.int64)
    by_group = np.argsort(groups, kind="stable")
    return np.sort(shuffled[by_group][index - 1 :: count])


def _lot(name: str, flat: bool) -> bytes:
    """What an image's place in the shuffled order comes from: its folder's and its own name, or where there are no folders
    its own, wherever the set lies."""
    own = PurePosixPath(name).parts[-1 if flat else -2 :]
    return hashlib.sha256("/".join(own).encode(errors="surrogateescape")).digest()
