"""The files of a directory or a tar by name, each with a way to its bytes."""

from __future__ import annotations

import io
import lzma
import os
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from runtime.preprocess import SUFFIXES
from train.exceptions import DataError

_TAR_BLOCK = 512
_SMALL = (".cls", ".json")  # labels, one file an image: read while the tar is listed, not one by one later


class Extent(NamedTuple):
    """A stretch of a file on disk: a member of an uncompressed tar, or by default the whole file."""

    path: str
    offset: int = 0
    size: int = -1

    def read(self, limit: int | None = None) -> bytes:
        """The bytes, or the first `limit` of them. From any thread: the file is opened anew."""
        with io.FileIO(self.path) as file:
            file.seek(self.offset)
            return file.read(self.size if limit is None else limit)


class Contents(NamedTuple):
    """Bytes in memory."""

    data: bytes

    def read(self, limit: int | None = None) -> bytes:
        """The bytes, or the first `limit` of them."""
        return self.data[:limit]


File = Extent | Contents


def is_image(name: str) -> bool:
    """Whether a name has an image's ending."""
    return os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122  ten times as fast, for millions of names


def no_images(path: Path, files: Sequence[str]) -> DataError:
    """The error for a source with no image in it, saying what it holds instead."""
    found = f"{len(files)} other files, such as {files[0]}" if files else "no files at all"
    return DataError(
        f"{path}: no images; expected one folder a class with {', '.join(sorted(SUFFIXES))}, or images and a "
        f"labels.csv; found {found}"
    )


def in_folder(path: Path) -> dict[str, File]:
    """Every file below a directory, by its path in it.

    Raises:
        DataError: a folder that may not be read.
    """

    def fail(error: OSError) -> None:
        raise DataError(f"{error.filename}: not a readable directory ({error.strerror})")

    files: dict[str, File] = {}
    for folder, _, names in os.walk(path, onerror=fail):
        prefix = PurePosixPath(Path(folder).relative_to(path).as_posix())
        files |= {str(prefix / name): Extent(f"{folder}{os.sep}{name}") for name in names}
    return files


def in_tar(path: Path, limit: int) -> dict[str, File]:
    """Every file of a tar, by its name without ``./``: where it lies, or if the tar is compressed what it holds.

    Args:
        path: the tar.
        limit: how many bytes of a compressed tar may be held in memory.

    Raises:
        DataError: no readable tar, or a compressed one of more than `limit` bytes.
    """
    files: dict[str, File] = {}
    try:
        with tarfile.open(path) as tar:
            if (stream := tar.fileobj) is None:
                raise tarfile.ReadError("it has no bytes")
            compressed = not isinstance(stream, io.BufferedReader)
            held = 0
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # a million of them would take gigabytes
                if not member.isfile():
                    continue
                name = str(PurePosixPath(member.name))
                scattered = compressed or member.issparse()
                if not scattered and not name.endswith(_SMALL):
                    files[name] = Extent(str(path), member.offset_data, member.size)
                    continue
                held += scattered * member.size
                if held > limit:
                    raise DataError(
                        f"{path}: a compressed tar can't be read image by image, and its files take more than "
                        f"{limit / 1e9:.3g} GB of memory; decompress it to an uncompressed tar"
                    )
                if (content := tar.extractfile(member)) is None:
                    raise tarfile.ReadError(f"{name} has no bytes")
                files[name] = Contents(content.read())
            stream.seek(tar.offset)  # a tar ends with a block of zeros; tarfile itself does not miss it
            if stream.read(_TAR_BLOCK) != bytes(_TAR_BLOCK):
                raise DataError(f"{path}: not a readable tar (truncated after {len(files)} files)")
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"{path}: not a readable tar ({error})") from error
    return files
