"""A PNG without what does not make its pixels (W3C Portable Network Graphics, 3rd edition)."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from runtime.exceptions import UnsupportedImage

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB = 0, 2  # colour types
_KEPT = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf"})
_MAX_CHUNKS = 100_000  # encoders write pixels in chunks of 8 kB and more


@dataclass(frozen=True)
class Stripped:
    """What is left of a PNG.

    Attributes:
        data: the file without texts, animation and other chunks that the pixels do not need; they may be damaged, or
            unpack to any size.
        profile: the ICC profile, unpacked; None if there is none, or a damaged or too large one.
        depth: bits a sample.
        colour: 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGBA.
    """

    data: bytes
    profile: bytes | None
    depth: int
    colour: int


def strip(data: bytes, max_profile: int) -> Stripped:
    """Leave out what the pixels do not need.

    Raises:
        UnsupportedImage: more chunks than an encoder writes.
    """
    kept, profile = [SIGNATURE], None
    begin = position = len(SIGNATURE)  # of the stretch of chunks that are kept
    for _ in range(_MAX_CHUNKS):
        if len(data) - position < 8:
            break
        length, kind = struct.unpack_from(">I4s", data, position)
        stop = position + 12 + length
        if kind not in _KEPT:
            kept.append(data[begin:position])
            begin = min(stop, len(data))
            if kind == b"iCCP" and profile is None:
                profile = _profile(data[position + 8 : stop - 4], max_profile)
        position = stop
        if kind == b"IEND":
            break
    else:
        raise UnsupportedImage(f"the PNG has more than {_MAX_CHUNKS:,} chunks; save it again")
    kept.append(data[begin:position])
    header = data[16:26].ljust(10, b"\0")
    return Stripped(b"".join(kept) if len(kept) > 2 else data, profile, header[8], header[9])


def mend_transparency(image: Image.Image, stripped: Stripped) -> None:
    """Make the transparent colour of a decoded image that of its 8-bit pixels; Pillow leaves it as it is in the file."""
    depth, key = stripped.depth, image.info["transparency"]
    if stripped.colour == _GREY and depth < 16 and image.mode == "L":
        most = (1 << depth) - 1
        image.info["transparency"] = (key & most) * (255 // most)
    elif stripped.colour == _RGB and depth < 16:
        image.info["transparency"] = tuple(level & 0xFF for level in key)
    elif stripped.colour == _RGB:
        image.putalpha(Image.fromarray(np.where(_equals(image, stripped, key), 0, 255).astype(np.uint8)))
        del image.info["transparency"]


def _equals(image: Image.Image, stripped: Stripped, key: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Where 16-bit pixels, decoded by their high bytes and here by their low ones, are of one colour."""
    low = Image.open(io.BytesIO(stripped.data), formats=("PNG",))
    low.tile = [low.tile[0]._replace(args="RGB;16L")]
    low.load()
    high_key, low_key = (np.array([level >> shift & 0xFF for level in key], np.uint8) for shift in (8, 0))
    return np.asarray(((np.asarray(image) == high_key) & (np.asarray(low) == low_key)).all(axis=-1))


def _profile(chunk: bytes, max_profile: int) -> bytes | None:
    """The ICC profile of an iCCP chunk: a name, a zero, the method (0) and the packed profile."""
    _, _, packed = chunk.partition(b"\0")
    unpacker = zlib.decompressobj()
    try:
        profile = unpacker.decompress(packed[1:], max_profile)
    except zlib.error:
        return None
    return profile if unpacker.eof else None
