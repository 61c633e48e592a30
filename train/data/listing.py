"""The files of a folder or an archive by name, and which of them are images."""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime.folder import ending, is_hidden, is_image
from runtime.preprocess import SUFFIXES
from runtime.preprocess.formats import HEIF_SUFFIXES
from train.data.files import File, has_format
from train.data.report import Passed
from train.exceptions import DataError

_ENDING = re.compile(r"\.[A-Za-z][A-Za-z0-9_]{0,9}$")  # what tells of a format; `.2` or `.jpg?w=200` does not
_ROUNDS = 16  # links to links that are followed


@dataclass(frozen=True)
class Listing:
    """The files of a set.

    Attributes:
        files: all that are not hidden, by their names in the set, with slashes.
        images: names of those that are images by their ending, or without one by their first bytes.
        passed: what is no image, and why.
    """

    files: Mapping[str, File]
    images: list[str]
    passed: tuple[Passed, ...]

    def named(self, name: str) -> str:
        """How a file is called here that a table names, perhaps with the slashes of Windows."""
        return name if name in self.files else name.replace("\\", "/")

    @classmethod
    def of(
        cls,
        files: Mapping[str, File],
        *,
        folders: Iterable[str] = (),
        hidden: Collection[str] = (),
        astray: Collection[str] = (),
    ) -> Listing:
        """Tell the images from the other files.

        Args:
            files: by name.
            folders: names of all folders.
            hidden: names that were passed over as such.
            astray: names of links that lead nowhere or in a circle.
        """
        images = [name for name, file in files.items() if is_image(name) or (_is_unnamed(name) and has_format(file))]
        others = sorted(files.keys() - set(images))
        passed = (
            Passed("not images", tuple(name for name in others if ending(name) not in HEIF_SUFFIXES)),
            Passed(
                "HEIF or AVIF, which pip install 'oodgate[heif]' reads",
                tuple(name for name in others if ending(name) in HEIF_SUFFIXES),
            ),
            Passed("hidden", tuple(sorted(hidden))),
            Passed("links to nowhere", tuple(sorted(astray))),
            Passed("folders without images", tuple(_empty(folders, images)), counts=False),
        )
        return cls(files, images, tuple(one for one in passed if one.names))


def cleaned(name: str) -> str:
    """A name in an archive as one below a folder: ``/./a/../b`` is ``a/b``; composed (NFC), as labels are."""
    parts = unicodedata.normalize("NFC", name).split("/")
    return "/".join(part for part in parts if part not in ("", ".", ".."))


class Names:
    """A cleaned name for each member of an archive, of which no two that differ get the same."""

    def __init__(self) -> None:
        self._paths: dict[str, str] = {}

    def __call__(self, name: str) -> str:
        """``../a/1.png`` is ``a/1.png``, or ``a/~1.png`` where that was ``a/1.png`` itself; the same for the same member."""
        path, found = posixpath.normpath(name), cleaned(name)
        while found and self._paths.setdefault(found, path) != path:
            folder, slash, own = found.rpartition("/")
            found = f"{folder}{slash}~{own}"
        return found


def without_hidden(files: Mapping[str, File]) -> tuple[dict[str, File], list[str]]:
    """The files that are not hidden, and the names of those that are."""
    shown = {name: file for name, file in files.items() if not is_hidden(name)}
    return shown, [name for name in files if name not in shown]


def follow(files: Mapping[str, File], links: Mapping[str, str]) -> tuple[dict[str, File], list[str]]:
    """The files of an archive with those that its links name, and the links that lead nowhere or in a circle.

    Args:
        files: by name.
        links: name of a link -> cleaned name of a file or folder.
    """
    found, left = dict(files), dict(links)
    for _ in range(_ROUNDS):
        to_files = {name: found[target] for name, target in left.items() if target in found}
        if to_files:  # first, as a folder that is linked to may have links inside
            found |= to_files
            left = {name: target for name, target in left.items() if name not in to_files}
            continue
        folders = _above(found)
        to_folders = {
            name: target
            for name, target in left.items()
            if target in folders and not f"{name}/".startswith(f"{target}/")
        }
        if not to_folders:
            break
        for name, target in to_folders.items():
            inside = [each for each in found if each.startswith(f"{target}/")]
            found |= {name + each.removeprefix(target): found[each] for each in inside}
            del left[name]
    return found, sorted(left)


def target_of(name: str, link: str) -> str:
    """What a symbolic link at `name` in an archive points to, as a cleaned name."""
    return cleaned(posixpath.normpath(posixpath.join(posixpath.dirname(name), unicodedata.normalize("NFC", link))))


def no_images(path: Path, files: Collection[str]) -> DataError:
    """The error for a source with no image in it, saying what it holds instead."""
    found = f"{len(files)} other files, such as {next(iter(files))}" if files else "no files at all"
    return DataError(
        f"{path}: no images; expected one folder a class with {', '.join(sorted(SUFFIXES))}, or images and a "
        f"labels.csv; found {found}"
    )


def _is_unnamed(name: str) -> bool:
    return not _ENDING.match(ending(name))


def _above(names: Iterable[str]) -> set[str]:
    """All folders that the files of these names lie in, at any depth."""
    found: set[str] = set()
    for name in names:
        while (name := name.rpartition("/")[0]) and name not in found:
            found.add(name)
    return found


def _empty(folders: Iterable[str], images: Iterable[str]) -> list[str]:
    """The folders below which there is no image, without those inside of them."""
    full = _above(images)
    return sorted(name for name in folders if name not in full and (name.rpartition("/")[0] or "") in {"", *full})
