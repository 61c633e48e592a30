"""Where the bytes, or the pixels, of one image are."""

from __future__ import annotations

import io
import lzma
import struct
import zipfile
import zlib
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from runtime.exceptions import EmptyImage, NotAnImage
from runtime.manifest import InputSpec
from runtime.preprocess import FORMATS, Limits, fit, preprocess
from runtime.preprocess.formats import kind

_LOCAL = 30  # bytes of the header of a zip's member
_DAMAGES = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, RuntimeError, NotImplementedError, ValueError,
)  # fmt: skip
_HEAD = 256  # bytes by which the formats are told apart
_MOST = Limits().max_bytes + 1  # of a file that are read: with more it is refused anyway


class File(Protocol):
    """The bytes of an image file, from any thread."""

    def read(self, limit: int | None = None) -> bytes:
        """All bytes, or the first `limit` of them."""


class Extent(NamedTuple):
    """A stretch of a file on disk: a member of an uncompressed tar, or by default the whole file."""

    path: str
    offset: int = 0
    size: int = -1

    def read(self, limit: int | None = None) -> bytes:
        """The bytes, or the first `limit` of them. From any thread: the file is opened anew."""
        with io.FileIO(self.path) as file:
            file.seek(self.offset)
            wanted = self.size if limit is None else limit if self.size < 0 else min(limit, self.size)
            return file.read(wanted)


class Contents(NamedTuple):
    """Bytes in memory."""

    data: bytes

    def read(self, limit: int | None = None) -> bytes:
        """The bytes, or the first `limit` of them."""
        return self.data[:limit]


class Member(NamedTuple):
    """A member of a zip."""

    path: str
    info: zipfile.ZipInfo

    def read(self, limit: int | None = None) -> bytes:
        """The bytes, or the first `limit` of them; no more are unpacked, whatever the zip says.

        Raises:
            OSError: damaged, or packed in a way that Python has no part in.
        """
        try:
            with io.FileIO(self.path) as file:
                file.seek(self.info.header_offset)
                magic, name, extra = struct.unpack("<4s22xHH", file.read(_LOCAL))
                if magic != b"PK\3\4":
                    raise zipfile.BadZipFile("its header is not where it should be")
                file.seek(name + extra, io.SEEK_CUR)
                with zipfile.ZipExtFile(file, "r", self.info) as member:
                    return member.read(-1 if limit is None else limit)
        except _DAMAGES as error:
            raise OSError(f"its bytes in the zip are damaged or not read ({error})") from error


class Pixels(NamedTuple):
    """An image that is decoded already, uint8 [h, w, 3], RGB."""

    array: npt.NDArray[np.uint8]

    def read(self, limit: int | None = None) -> bytes:
        """The bytes of the pixels, or the first `limit` of them."""
        return self.array.tobytes()[:limit]

    def at(self, spec: InputSpec) -> npt.NDArray[np.uint8]:
        """At the model's size; what is of that size already is taken as it is."""
        if self.array.shape[:2] == (spec.height, spec.width):
            return self.array
        return fit(Image.fromarray(self.array), spec)


def decode(file: File, spec: InputSpec) -> npt.NDArray[np.uint8]:
    """The image at the model's size, uint8 [height, width, 3].

    Raises:
        ImageError, OSError: bytes that are no usable image, or can't be read.
    """
    return file.at(spec) if isinstance(file, Pixels) else preprocess(file.read(_MOST), spec)


def has_format(file: File) -> bool:
    """Whether the first bytes are those of an accepted format; not for bytes that can't be read."""
    try:
        return kind(file.read(_HEAD)) in FORMATS
    except OSError:
        return False


def check_head(file: File) -> None:
    """Look at the first bytes.

    Raises:
        ImageError, OSError: no bytes, not of an accepted format, or can't be read.
    """
    if isinstance(file, Pixels):
        return
    head = file.read(_HEAD)
    if not head:
        raise EmptyImage("the image is empty")
    if kind(head) not in FORMATS:
        raise NotAnImage(f"the bytes are not an image of an accepted format ({', '.join(FORMATS)})")
