"""Where rejects lie: folders of small files, on a local disk or wherever fsspec reaches."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from runtime import atomic
from serving.exceptions import StoreUnusable


@dataclass(frozen=True)
class FileInfo:
    """A file of a folder."""

    name: str
    bytes: int


class Files(Protocol):
    """One level of folders with files in them. Every method may raise OSError.

    A file is whole or not there, whenever the process dies; what a dead process left half written has the file's name
    behind a dot, or before one, if it has one at all.
    """

    def folders(self) -> list[str]:
        """Names of the folders, ascending."""
        ...

    def files(self, folder: str) -> list[FileInfo]:
        """The files of a folder, in no order; none where there is no such folder."""
        ...

    def write(self, folder: str, name: str, data: bytes) -> None:
        """Make a file, and its folder if need be."""
        ...

    def read(self, folder: str, name: str) -> bytes:
        """A file's bytes; FileNotFoundError where there is none."""
        ...

    def delete(self, folder: str, name: str) -> None:
        """Remove a file, if it is there."""
        ...


class LocalFiles:
    """A directory on a local disk; readable by its owner alone.

    Args:
        root: made when the first file is, or by :meth:`check`.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def check(self) -> None:
        """Make the root, and a file in it that is gone at once.

        Raises:
            StoreUnusable: it can't be made or written.
        """
        try:
            atomic.check_writable(self._root, mode=0o700)
        except OSError as error:
            raise StoreUnusable(
                f"rejected images can't be kept: {self._root} is no directory that can be written ({error.strerror}); "
                "name another, or none"
            ) from error

    def folders(self) -> list[str]:
        return sorted(entry.name for entry in _scan(self._root) if entry.is_dir())

    def files(self, folder: str) -> list[FileInfo]:
        return list(_infos(self._root / folder))

    def write(self, folder: str, name: str, data: bytes) -> None:
        directory = self._root / folder
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        atomic.replace(directory / name, data)

    def read(self, folder: str, name: str) -> bytes:
        return (self._root / folder / name).read_bytes()

    def delete(self, folder: str, name: str) -> None:
        (self._root / folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # other files are in it
            (self._root / folder).rmdir()


class RemoteFiles:
    """A prefix of an object store, or of another file system of fsspec's, whose writes are whole or not at all.

    Args:
        url: such as ``s3://bucket/rejects``; its plugin (s3fs, gcsfs, ...) must be installed.

    Raises:
        StoreUnusable: no plugin for it, or no credentials.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        try:
            self._fs, self._root = fsspec.url_to_fs(url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise StoreUnusable(f"{url}: fsspec can't open it ({error}); install the plugin it names") from error
        except Exception as error:  # a plugin's own errors: credentials, names, networks
            raise StoreUnusable(f"{url}: can't be opened ({error})") from error

    def folders(self) -> list[str]:
        return sorted(_name(entry) for entry in self._list(self._root) if entry["type"] == "directory")

    def files(self, folder: str) -> list[FileInfo]:
        entries = self._list(f"{self._root}/{folder}")
        return [FileInfo(_name(entry), int(entry["size"] or 0)) for entry in entries if entry["type"] == "file"]

    def write(self, folder: str, name: str, data: bytes) -> None:
        try:
            self._fs.pipe_file(f"{self._root}/{folder}/{name}", data)
        except FileNotFoundError:  # not an object store, whose folders are but names
            self._fs.makedirs(f"{self._root}/{folder}", exist_ok=True)
            self._fs.pipe_file(f"{self._root}/{folder}/{name}", data)

    def read(self, folder: str, name: str) -> bytes:
        return bytes(self._fs.cat_file(f"{self._root}/{folder}/{name}"))

    def delete(self, folder: str, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(f"{self._root}/{folder}/{name}")

    def _list(self, path: str) -> list[dict[str, Any]]:
        try:
            return list(self._fs.ls(path, detail=True))
        except FileNotFoundError:
            return []


def open_files(place: str) -> Files:
    """The files of a directory, or of a URL with a scheme.

    Raises:
        StoreUnusable: a URL that fsspec can't open.
    """
    return RemoteFiles(place) if "://" in place else LocalFiles(Path(place))


def check_files(place: str) -> None:
    """Open a place, and see that a directory can be written, which is made; what is remote may be out of reach for a while.

    Raises:
        StoreUnusable: a URL that fsspec can't open, or a directory that can't be written.
    """
    files = open_files(place)
    if isinstance(files, LocalFiles):
        files.check()


def _scan(directory: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except FileNotFoundError:
        return []


def _infos(directory: Path) -> Iterator[FileInfo]:
    for entry in _scan(directory):
        try:
            if entry.is_file():
                yield FileInfo(entry.name, entry.stat().st_size)
        except FileNotFoundError:  # another worker deleted it meanwhile
            continue


def _name(entry: dict[str, Any]) -> str:
    return str(entry["name"]).rstrip("/").rpartition("/")[2]
