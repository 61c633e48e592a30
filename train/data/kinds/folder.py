"""A folder: of images, of shards of tars, or of Parquet files."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

from runtime.folder import walk
from train.data.files import Extent, File
from train.data.index import Index
from train.data.kinds import parquet, tar
from train.data.labels.labelling import label
from train.data.listing import Listing, no_images
from train.data.options import Reading
from train.exceptions import DataError


def takes(path: Path) -> bool:
    """Whether it is a folder, or a link to one."""
    return path.is_dir()


def index(path: Path, reading: Reading, memory: int) -> Index:
    """The images below the folder; where there are none, those of the tars or Parquet files in it.

    Raises:
        DataError: a folder that may not be read, no images, or labels that can't be understood.
    """
    listing = list_folder(path)
    if listing.images:
        found = label(path, listing, reading)
        flat = not any("/" in name for name in listing.images) and found.implied
        if flat and (shards := sorted(path.glob("*.tar"))):
            one = listing.images[0]
            raise DataError(
                f"{path}: holds both images, such as {one}, and tars, such as {shards[0].name}; name those that are meant, "
                f"'{path}/*.tar' for the tars, '{path}/*{Path(one).suffix}' for the images"
            )
        return found
    if shards := sorted(path.glob("*.tar")):
        return tar.of_shards(path, shards, reading, memory)
    if shards := [path / name for name in sorted(listing.files) if name.lower().endswith(".parquet")]:
        return parquet.of_shards(path, shards, reading)
    if arrow := [name for name in listing.files if name.endswith(".arrow")]:
        raise DataError(
            f"{path}: {arrow[0]} is what datasets keeps for itself; write it as Parquet: "
            "datasets.load_from_disk(PATH).to_parquet('images.parquet')"
        )
    raise no_images(path, listing.files)


def list_folder(path: Path) -> Listing:
    """Every file below a folder, by its path in it; links are followed.

    Raises:
        DataError: a folder that may not be read.
    """
    files: dict[str, File] = {}
    folders, hidden, astray = [], [], []
    try:
        for folder in walk(path):
            prefix = f"{folder.name}/" if folder.name else ""
            where = f"{path}{os.sep}{prefix}"
            for own in folder.files:
                name = own
                while (full := unicodedata.normalize("NFC", prefix + name)) in files:
                    name = f"~{name}"  # two names that differ in their form alone
                files[full] = Extent(where + own)
            folders += [unicodedata.normalize("NFC", folder.name)] if folder.name else []
            hidden += [prefix + own for own in folder.hidden]
            astray += [prefix + own for own in folder.loops]
    except OSError as error:
        raise DataError(f"{error.filename}: not a readable directory ({error.strerror})") from error
    return Listing.of(files, folders=folders, hidden=hidden, astray=astray)
