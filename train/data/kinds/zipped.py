"""A zip: read where its files lie, never unpacked to disk."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

from train.data.files import Extent, File, Member
from train.data.index import Index
from train.data.labels.labelling import label
from train.data.listing import Listing, Names, follow, target_of, without_hidden
from train.data.options import Reading
from train.exceptions import DataError

_MAGIC = b"PK"
_ENCRYPTED = 0x1
_LONGEST = 4096  # bytes of what a link names


def takes(path: Path) -> bool:
    """By its content; by its name too, for a damaged one."""
    return path.is_file() and (path.suffix.lower() == ".zip" or Extent(str(path)).read(2) == _MAGIC)


def index(path: Path, reading: Reading, memory: int) -> Index:  # noqa: ARG001  what is read is what is used
    """The images of a zip.

    Raises:
        DataError: no readable zip, an encrypted one, no images, or labels that can't be understood.
    """
    return label(path, list_zip(path), reading, archive=True)


def list_zip(path: Path) -> Listing:
    """Every file of a zip, by its cleaned name.

    Raises:
        DataError: no readable zip, or an encrypted one.
    """
    files: dict[str, File] = {}
    links: dict[str, str] = {}
    folders, named = [], Names()
    for info in _infos(path):
        name = named(info.filename.replace("\\", "/"))
        if info.flag_bits & _ENCRYPTED:
            raise DataError(f"{path}: {name} is encrypted; unpack it with its password and give the folder")
        if info.is_dir():
            folders.append(name)
        elif stat.S_ISLNK(info.external_attr >> 16):
            links[name] = target_of(name, Member(str(path), info).read(_LONGEST).decode(errors="surrogateescape"))
        else:
            files[name] = Member(str(path), info)
    files, astray = follow(files, links)
    files, hidden = without_hidden(files)
    return Listing.of(files, folders=folders, hidden=hidden, astray=astray)


def _infos(path: Path) -> list[zipfile.ZipInfo]:
    """What its directory lists, with names in UTF-8 where they are, whether it says so (macOS does not) or not."""
    try:
        try:
            with zipfile.ZipFile(path, metadata_encoding="utf-8") as archive:
                return archive.infolist()
        except UnicodeDecodeError:
            with zipfile.ZipFile(path) as archive:
                return archive.infolist()
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
        raise DataError(f"{path}: not a readable zip ({error})") from error
