"""Files by their path, or by their URL wherever fsspec reaches: listed, read, written as a whole."""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import fsspec

from runtime import atomic, folder
from serving.exceptions import OutputUnusable, SourceUnusable


class Found(NamedTuple):
    """A file: its path or URL, its bytes, and what changes when it is written again."""

    name: str
    bytes: int
    stamp: str


def is_url(name: str) -> bool:
    """Whether a name is a URL rather than a path."""
    return "://" in name


def is_folder(name: str) -> bool:
    """Whether it is a directory, or a prefix of an object store.

    Raises:
        SourceUnusable: the URL can't be opened.
    """
    if not is_url(name):
        return Path(name).is_dir()
    fs, path = _opened(name)
    with _explained(name):
        return bool(fs.isdir(path))


def images_below(name: str) -> list[Found]:
    """The images of a directory and all below it, by their endings, in the order of `oodgate run`."""
    if not is_url(name):
        return [_local(each) for each in folder.images(Path(name))]
    return folder.only_images(name, _below(name), lambda found: found.name)


def files_in(name: str, ending: str) -> list[Found]:
    """The files of a directory itself whose names have this ending, in small letters or capitals, sorted; no hidden ones."""

    def is_wanted(own: str) -> bool:
        return own.lower().endswith(ending) and not folder.is_hidden(own)

    if not is_url(name):
        paths = (f"{name.rstrip('/')}/{own}" for own in sorted(os.listdir(name)) if is_wanted(own))  # noqa: PTH208
        return [_local(path) for path in paths if Path(path).is_file()]
    fs, path = _opened(name)
    with _explained(name):
        infos = {info["name"]: info for info in fs.ls(path, detail=True)}
        return _files(fs, {path: info for path, info in infos.items() if is_wanted(path.rpartition("/")[2])})


def matching(pattern: str) -> list[Found]:
    """The files that a pattern finds, sorted; ``**`` stands for folders in folders."""
    if not is_url(pattern):
        found = set(glob.glob(pattern, recursive=True))  # noqa: PTH207  # twice, by a pattern with two **
        return [_local(each) for each in sorted(found) if Path(each).is_file()]
    fs, path = _opened(pattern)
    with _explained(pattern):
        return _files(fs, fs.glob(path, detail=True))


def find(name: str) -> Found:
    """One file.

    Raises:
        SourceUnusable: there is none, or it can't be opened.
    """
    if is_url(name):
        fs, path = _opened(name)
        with _explained(name):
            return Found(name, *_state(fs.info(path)))
    if not Path(name).exists():
        raise SourceUnusable(f"{name}: no such file or folder")
    return _local(name)


def _local(name: str) -> Found:
    """A file on a disk; a link to nowhere is one that can't be read."""
    try:
        stat = Path(name).stat()
    except OSError:
        return Found(name, 0, "unreadable")
    return Found(name, stat.st_size, str(stat.st_mtime_ns))


def read(name: str, limit: int) -> bytes:
    """The first `limit` bytes of a file.

    Raises:
        OSError: it can't be read.
    """
    try:
        if not is_url(name):
            with open(name, "rb") as file:  # noqa: PTH123  many
                return file.read(limit)
        fs, path = fsspec.url_to_fs(name)
        return bytes(fs.cat_file(path, start=0, end=limit))
    except OSError:
        raise
    except Exception as error:  # a name that is none, a protocol that nobody knows, a plugin's own errors
        raise OSError(f"{type(error).__name__}: {error}") from error


@contextlib.contextmanager
def opened(name: str) -> Iterator[BinaryIO]:
    """A file, to be read from its beginning to its end."""
    with open(name, "rb") if not is_url(name) else fsspec.open(name, "rb") as file:  # noqa: PTH123
        yield file


class Folder:
    """The directory, or the prefix, that an output is written to.

    Args:
        name: a path or URL; made when the first file is.

    Raises:
        OutputUnusable: a URL that fsspec can't open.
    """

    def __init__(self, name: str) -> None:
        self.name = name.removeprefix("file://").rstrip("/")
        self._fs: Any
        self._fs, self._root = _opened(self.name, OutputUnusable) if is_url(name) else (None, self.name)

    def names(self) -> list[str]:
        """Of its files; none where there is no such folder."""
        with self._writable():
            try:
                if self._fs is None:
                    return os.listdir(self._root)  # noqa: PTH208
                return [str(path).rpartition("/")[2] for path in self._fs.ls(self._root, detail=False, refresh=True)]
            except FileNotFoundError:
                return []

    def read(self, name: str) -> bytes:
        """A file's bytes; FileNotFoundError where there is none."""
        if self._fs is None:
            return (Path(self._root) / name).read_bytes()
        return bytes(self._fs.cat_file(f"{self._root}/{name}"))

    def write(self, name: str, data: bytes) -> None:
        """Make or replace a file: whole or not at all, whenever the process dies.

        Raises:
            OutputUnusable: it can't be written.
        """
        with self._writable():
            if self._fs is not None:
                self._write_remote(f"{self._root}/{name}", data)
                return
            Path(self._root).mkdir(parents=True, exist_ok=True)
            atomic.replace(Path(self._root) / name, data)

    def _write_remote(self, path: str, data: bytes) -> None:
        try:
            self._fs.pipe_file(path, data)
        except FileNotFoundError:  # not an object store, whose folders are but names
            self._fs.makedirs(self._root, exist_ok=True)
            self._fs.pipe_file(path, data)

    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""
        with self._writable(), contextlib.suppress(FileNotFoundError):
            if self._fs is None:
                (Path(self._root) / name).unlink()
            else:
                self._fs.rm_file(f"{self._root}/{name}")

    @contextlib.contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # a plugin's own errors: credentials, names, networks
            raise OutputUnusable(f"{self.name}: can't be written ({error}); choose another --out") from error


def _below(name: str) -> list[Found]:
    fs, path = _opened(name)
    with _explained(name):
        root = path.rstrip("/") + "/"
        return [
            found
            for path, found in sorted(
                _by_path(fs, fs.find(path, detail=True)).items(), key=lambda one: one[0].split("/")
            )
            if not folder.is_hidden(path.removeprefix(root))
        ]


def _files(fs: Any, infos: dict[str, dict[str, Any]]) -> list[Found]:
    return [found for _, found in sorted(_by_path(fs, infos).items())]


def _by_path(fs: Any, infos: dict[str, dict[str, Any]]) -> dict[str, Found]:
    return {
        path: Found(str(fs.unstrip_protocol(path)), *_state(info))
        for path, info in infos.items()
        if info["type"] == "file"
    }


def _state(info: dict[str, Any]) -> tuple[int, str]:
    """The bytes of a remote file, and its version as far as its file system tells."""
    keys = ("ETag", "etag", "content_md5", "md5Hash", "LastModified", "last_modified", "mtime", "updated", "created")
    return int(info.get("size") or 0), str(next((info[key] for key in keys if info.get(key)), ""))


def _opened(name: str, unusable: type[SourceUnusable | OutputUnusable] = SourceUnusable) -> tuple[Any, str]:
    try:
        fs, path = fsspec.url_to_fs(name)
    except (ImportError, ValueError) as error:
        raise unusable(f"{name}: fsspec can't open it ({error}); install the plugin it names") from error
    except Exception as error:  # a plugin's own errors
        raise unusable(f"{name}: can't be opened ({error})") from error
    return fs, str(path)


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise SourceUnusable(f"{name}: no such file or folder") from error
    except Exception as error:  # a plugin's own errors
        raise SourceUnusable(f"{name}: can't be read ({error})") from error
