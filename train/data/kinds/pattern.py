"""A pattern: ``train-{000..009}.tar``, ``photos/*.jpg``, ``sets/**/cat``, ``data/train-*.parquet``."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from runtime.patterns import PARQUETS, TARS, is_wild, numbered
from train.data.files import Extent, File
from train.data.index import Index
from train.data.kinds import folder, parquet, tar
from train.data.labels import by_folder
from train.data.listing import Listing, no_images
from train.data.options import Reading


def takes(path: Path) -> bool:
    """Whether it has a range, or finds something."""
    name = str(path)
    return numbered(name) is not None or (is_wild(name) and bool(_found(path)))


def index(path: Path, reading: Reading, memory: int) -> Index:
    """The images of all that the pattern finds: tars, Parquet files, or images and folders of them.

    Raises:
        OodgateError: a range that counts down.
        DataError: no images, or what any of them raises.
    """
    found = expand(path)
    if all(str(each).lower().endswith(TARS) for each in found):
        return tar.of_shards(path, found, reading, memory)
    if all(each.suffix.lower() in PARQUETS for each in found):
        return parquet.of_shards(path, found, reading)
    base = _base(found)
    listing = _listing(found, base)
    if not listing.images:
        raise no_images(path, listing.files)
    return by_folder.index(listing, base.name, alone=_are_of_one_folder(found))


def expand(path: Path) -> list[Path]:
    """What a pattern stands for: a range for all its numbers, there or not, and the rest for what is there.

    Raises:
        OodgateError: a range that counts down.
    """
    if names := numbered(str(path)):
        return [each for name in names for each in expand(Path(name))]
    return _found(path) if is_wild(str(path)) else [path]


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
