"""What a JPEG is, read from its markers before a decoder sees it (ITU-T T.81, annex B)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from runtime.exceptions import UnsupportedImage

# A scan of a few bytes makes the decoder walk over the whole image once more. Encoders write about ten.
_MAX_SCANS = 100
_MAX_SEGMENTS = 10_000  # a colour profile has at most 255, a large one of provenance some hundred

_SOI, _EOI, _SOS, _EXP = 0xD8, 0xD9, 0xDA, 0xDF
_HIERARCHICAL = frozenset({0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF, 0xDE, _EXP})
_FRAMES = {
    0xC0: "baseline",
    0xC1: "extended",
    0xC2: "progressive",
    0xC3: "lossless",
    0xC9: "arithmetic-coded",
    0xCA: "arithmetic-coded progressive",
    0xCB: "arithmetic-coded lossless",
}
_SCALABLE = frozenset({0xC0, 0xC2})

# Fill bytes, stuffed zeros, restarts and TEM carry no length and may be many: skipped without a step for each.
_MARKER = re.compile(rb"\xff([^\x00\x01\xff\xd0-\xd7])")
_SCAN = b"\xff\xda"


@dataclass(frozen=True)
class Frame:
    """The one frame of a JPEG.

    Attributes:
        kind: ``baseline``, ``progressive``, ``lossless`` and so on.
        width, height: in pixels.
        scalable: whether the decoder may shrink it as it decodes. No other kind than baseline and progressive: of a
            lossless frame Pillow up to 12.3 writes all pixels into the buffer for the shrunken ones.
    """

    kind: str
    width: int
    height: int
    scalable: bool


def frame(data: bytes) -> Frame | None:
    """The frame, which is of a kind that is decoded; None where the header is damaged.

    Raises:
        UnsupportedImage: a kind of JPEG that is not read, by its name, or one that is made to cost time.
    """
    found: Frame | None = None
    for marker, start, stop in _segments(data):
        if marker == _SOS:
            _count_scans(data)
            return found
        if marker in _HIERARCHICAL or (found and marker in _FRAMES):
            raise UnsupportedImage("a hierarchical JPEG is not read; save it as a baseline or progressive one")
        if marker in _FRAMES:
            if stop - start < 8:
                return None
            found = _frame(marker, data[start + 2 : stop])
    return None


def _frame(marker: int, header: bytes) -> Frame:
    bits, components = header[0], header[5]
    height, width = int.from_bytes(header[1:3], "big"), int.from_bytes(header[3:5], "big")
    if bits != 8:
        raise UnsupportedImage(f"a JPEG of {bits} bits a sample is not read; save it with 8")
    if components not in (1, 3, 4):
        raise UnsupportedImage(f"a JPEG of {components} components is not read; save it as grey, RGB or CMYK")
    if not height:
        raise UnsupportedImage("a JPEG that tells its height only after the pixels (DNL) is not read; save it again")
    return Frame(_FRAMES[marker], width, height, marker in _SCALABLE)


def _count_scans(data: bytes) -> None:
    """Refuse more scans than an encoder writes. What follows the end of the image is none of it."""
    if data.count(_SCAN) <= _MAX_SCANS:
        return
    if sum(marker == _SOS for marker, *_ in _segments(data)) > _MAX_SCANS:
        raise UnsupportedImage(f"the JPEG has more than {_MAX_SCANS} scans, each of which costs a pass; save it again")


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start, stop) of each segment up to the end of the image; its first two bytes are its length."""
    position = 2
    for _ in range(_MAX_SEGMENTS):
        match = _MARKER.search(data, position)
        if not match or match[1][0] == _EOI:
            return
        marker, start = match[1][0], match.end()
        stop = start if marker == _SOI else start + max(2, int.from_bytes(data[start : start + 2], "big"))
        yield marker, start, min(stop, len(data))
        position = stop
    raise UnsupportedImage(f"the JPEG has more than {_MAX_SEGMENTS:,} segments; save it again")
