"""A pattern: ``train-{000..009}.tar``, ``photos/*.jpg``, ``sets/**/cat``, ``data/train-*.parquet``."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path

from train.data.files import Extent, File
from train.data.index import Index
from train.data.kinds import folder, parquet, tar
from train.data.labels import by_folder
from train.data.listing import Listing, no_images
from train.data.options import Reading
from train.exceptions import DataError

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_WILD = re.compile(r"[*?\[]")


def takes(path: Path) -> bool:
    """Whether it has a range, or finds something."""
    return bool(_RANGE.search(path.name)) or (bool(_WILD.search(str(path))) and bool(_found(path)))


def index(path: Path, reading: Reading, memory: int) -> Index:
    """The images of all that the pattern finds: tars, Parquet files, or images and folders of them.

    Raises:
        DataError: a range that counts down, no images, or what any of them raises.
    """
    found = expand(path)
    if all(str(each).lower().endswith(tar.ENDINGS) for each in found):
        return tar.of_shards(path, found, reading, memory)
    if all(each.suffix.lower() == ".parquet" for each in found):
        return parquet.of_shards(path, found, reading)
    base = _base(found)
    listing = _listing(found, base)
    if not listing.images:
        raise no_images(path, listing.files)
    return by_folder.index(listing, base.name, alone=_are_of_one_folder(found))


def expand(path: Path) -> list[Path]:
    """What a pattern stands for: a range for all its numbers, there or not, and the rest for what is there.

    Raises:
        DataError: a range that counts down.
    """
    match = _RANGE.search(path.name)
    if not match:
        return _found(path) if _WILD.search(str(path)) else [path]
    first, last = match.groups()
    if int(first) > int(last):
        raise DataError(f"{path}: the pattern {match[0]} counts down; expected {{{last}..{first}}}")
    names = [path.name.replace(match[0], f"{i:0{len(first)}}", 1) for i in range(int(first), int(last) + 1)]
    return [each for name in names for each in expand(path.with_name(name))]


def _found(path: Path) -> list[Path]:
    return [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207  `Path.glob` takes no absolute ones


def _base(found: Sequence[Path]) -> Path:
    """The folder that all of them lie below; above the one that they lie in, whose name is a label."""
    parents = {each.absolute().parent for each in found}
    return parents.pop().parent if _are_of_one_folder(found) else Path(os.path.commonpath(parents))


def _are_of_one_folder(found: Sequence[Path]) -> bool:
    return len({each.absolute().parent for each in found}) == 1 and not any(map(Path.is_dir, found))


def _listing(found: Sequence[Path], base: Path) -> Listing:
    """The files, and those in the folders, by their paths from `base`."""
    files: dict[str, File] = {}
    hidden: list[str] = []
    for each in found:
        where = each.absolute().relative_to(base).as_posix()
        if not each.is_dir():
            files[where] = Extent(str(each))
            continue
        inside = folder.list_folder(each)
        files |= {f"{where}/{name}": file for name, file in inside.files.items()}
        hidden += [f"{where}/{name}" for one in inside.passed if one.reason == "hidden" for name in one.names]
    return Listing.of(files, hidden=hidden)
