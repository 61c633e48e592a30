"""The files below a folder, as a person sees them: links are followed, hidden files and what systems leave behind are not."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from runtime.exceptions import OodgateError
from runtime.preprocess.formats import SUFFIXES

T = TypeVar("T")

logger = logging.getLogger("oodgate")

# Of macOS in zips, of Windows, of Synology's stations.
_LEFT_BEHIND = {"__macosx", "thumbs.db", "desktop.ini", "$recycle.bin", "system volume information", "@eadir"}


@dataclass(frozen=True)
class Folder:
    """One folder of a walk.

    Attributes:
        name: from where the walk began, with slashes; empty there.
        files: names of its files, links to files and links to nowhere included.
        hidden: names of the files and folders passed over.
        loops: names of links to a folder that this one lies in, which are not followed.
    """

    name: str
    files: tuple[str, ...]
    hidden: tuple[str, ...]
    loops: tuple[str, ...]


def is_hidden(name: str) -> bool:
    """Whether a path, with slashes, leads through what no one put there as an image: ``.x``, ``__MACOSX``, ``Thumbs.db``."""
    return any(part.startswith(".") or part.lower() in _LEFT_BEHIND for part in name.split("/"))


def walk(path: Path) -> Iterator[Folder]:
    """The folder and all below it, each before those in it; links to folders are followed, but not in circles.

    Raises:
        OSError: a folder that may not be read, by its `filename`.
    """
    yield from _below(str(path), "", (os.path.realpath(path),))


def images(path: Path) -> list[str]:
    """The paths of all images below a folder, by their endings; sorted folder by folder, as paths are.

    How many others are passed over is logged.

    Raises:
        OodgateError: a folder that may not be read.
    """
    root = "" if path == Path() else str(path)
    try:
        files = [
            os.path.join(root, folder.name, name)  # noqa: PTH118  many
            for folder in walk(path)
            for name in folder.files
        ]
    except OSError as error:
        raise OodgateError(f"{error.filename}: not a readable directory ({error.strerror})") from error
    return only_images(str(path), sorted(files, key=lambda name: name.split(os.sep)), str)  # noqa: PTH206  many


def only_images(where: str, files: Sequence[T], name_of: Callable[[T], str]) -> list[T]:
    """The files of a folder that are images by their endings; if some are, it is logged how many others are passed over."""
    found = [file for file in files if is_image(name_of(file))]
    if found and (count := len(files) - len(found)):
        other = next(name_of(file) for file in files if not is_image(name_of(file)))
        passed = f"{count:,} {'file' if count == 1 else 'files'}"
        logger.info("%s: passed over, by their endings: %s, such as %s", where, passed, other)
    return found


def is_image(name: str) -> bool:
    """Whether a name has an image's ending."""
    return ending(name) in SUFFIXES


def ending(name: str) -> str:
    """The last suffix of a name with slashes, in small letters; empty without, as for ``.png``."""
    dot = name.rfind(".")  # ten times as fast as a path's suffix, for millions of names
    return "" if dot <= name.rfind("/") + 1 else name[dot:].lower()


def _leads(check: Callable[[], bool]) -> bool:
    """What a check of an entry says; no for a link that can't be followed, as one to itself."""
    try:
        return check()
    except OSError:
        return False


def _below(folder: str, name: str, above: tuple[str, ...]) -> Iterator[Folder]:
    files, hidden, loops, folders = [], [], [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_hidden(entry.name):
                hidden.append(entry.name)
            elif not _leads(entry.is_dir):
                if _leads(entry.is_file) or not Path(entry.path).exists():  # no pipe, which would be waited for
                    files.append(entry.name)
            elif (real := os.path.realpath(entry.path)) in above:
                loops.append(entry.name)
            else:
                folders.append((entry.name, real))
    yield Folder(name, tuple(files), tuple(hidden), tuple(loops))
    for own, real in folders:
        yield from _below(f"{folder}{os.sep}{own}", f"{name}/{own}" if name else own, (*above, real))
