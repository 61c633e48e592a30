"""Windows and OS/2 bitmaps, read whole.

Pillow reads the common ones; of others it makes streaks (run lengths of 4 bits) or noise (few colours in 8 bits) without
a word, and each layout of bits it does not know is an error without a name.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from runtime.exceptions import UndecodableImage, UnsupportedImage
from runtime.preprocess.limits import Limits

Pixels = npt.NDArray[np.uint8]

_CORE, _OS2_SHORT, _INFO, _OS2, _V4, _V5 = 12, 16, 40, 64, 108, 124  # sizes of headers
_SIZES = frozenset({_CORE, _OS2_SHORT, _INFO, 52, 56, _OS2, _V4, _V5})
_RGB, _RLE8, _RLE4, _FIELDS, _ALPHA_FIELDS = 0, 1, 2, 3, 6
_NAMES = {4: "JPEG", 5: "PNG", 11: "CMYK", 12: "CMYK", 13: "CMYK"}
_PLAIN = {16: (0x7C00, 0x3E0, 0x1F), 32: (0xFF0000, 0xFF00, 0xFF)}  # masks of red, green and blue
_ALPHA = 66  # where the mask of alpha is
_MAX_CODES = 250_000  # some microseconds each
_END_OF_ROW, _END, _MOVE = 0, 1, 2  # what a run of no length means
_EMBEDDED = int.from_bytes(b"MBED", "big")


@dataclass(frozen=True)
class _Header:
    width: int
    height: int
    top_down: bool
    bits: int
    packing: int
    masks: tuple[int, int, int, int]
    palette: Pixels  # RGBA, uint8 [colours, 4]
    start: int  # of the pixels

    @property
    def row_bytes(self) -> int:
        return (self.width * self.bits + 31) // 32 * 4


def recognised(data: bytes) -> bool:
    """Whether a bitmap's header follows its two letters, with which many a text begins."""
    return data[:2] == b"BM" and len(data) >= 18 and struct.unpack_from("<I", data, 14)[0] in _SIZES


def read(data: bytes, limits: Limits) -> Image.Image:
    """The image, mode RGB or RGBA.

    Raises:
        UnsupportedImage, ImageTooLarge, UndecodableImage.
    """
    header = _header(data)
    limits.check_pixels(header.width, header.height)
    if header.packing in (_RLE8, _RLE4):
        pixels = header.palette[_runs(data, header)]
    else:
        pixels = _unpacked(_rows(data, header), header)
    if not header.top_down:
        pixels = pixels[::-1]
    return Image.fromarray(np.ascontiguousarray(pixels))


def profile(data: bytes) -> bytes | None:
    """The embedded ICC profile; None if there is none."""
    if len(data) < 14 + _V5 or struct.unpack_from("<I", data, 14)[0] != _V5:
        return None
    space, offset, length = (struct.unpack_from("<I", data, at)[0] for at in (70, 126, 130))
    return data[14 + offset : 14 + offset + length] if space == _EMBEDDED else None


def _header(data: bytes) -> _Header:
    size = struct.unpack_from("<I", data, 14)[0]
    if len(data) < 14 + size:
        raise UndecodableImage("the BMP's header is truncated or damaged")
    if size == _CORE:
        width, height, _, bits = struct.unpack_from("<4H", data, 18)
        packing = colours = 0
    else:
        width, height, _, bits = struct.unpack_from("<iiHH", data, 18)
        packing, *_, colours = struct.unpack("<5I", data[30 : 14 + size].ljust(20, b"\0")[:20])
    if width < 1 or not height:
        raise UndecodableImage(f"the BMP's header is damaged: {width} x {height} pixels")
    _check_supported(bits, packing, os2=size in (_OS2_SHORT, _OS2))
    masks, end = _masks(data, size, bits, packing)
    start = struct.unpack_from("<I", data, 10)[0]
    entry = 3 if size == _CORE else 4
    if start == end and bits <= 8:  # the palette was forgotten
        start += entry * (colours or 1 << bits)
    palette = _palette(data, end, start, bits, colours, entry)
    return _Header(width, abs(height), height < 0, bits, packing, masks, palette, start)


def _check_supported(bits: int, packing: int, *, os2: bool) -> None:
    if packing in (_RGB, _FIELDS, _ALPHA_FIELDS) and not (os2 and packing) and bits in (1, 2, 4, 8, 16, 24, 32):
        if packing == _RGB or bits in (16, 32):
            return
    elif (packing, bits) in ((_RLE8, 8), (_RLE4, 4)):
        return
    named = packing in _NAMES and not os2 and bits != 24  # else run lengths of 24 bits, and Huffman's
    what = f"packed as {_NAMES[packing]}" if named else f"of {bits} bits a pixel and packing {packing}"
    raise UnsupportedImage(f"a BMP {what} is not read; save it with 8 or 24 bits, unpacked")


def _masks(data: bytes, size: int, bits: int, packing: int) -> tuple[tuple[int, int, int, int], int]:
    """Where in a pixel red, green, blue and alpha are, and where the header ends."""
    end = 14 + size
    plain = _PLAIN.get(bits, (0, 0, 0))
    if packing not in (_FIELDS, _ALPHA_FIELDS):
        alpha = struct.unpack_from("<I", data, _ALPHA)[0] if size >= _V4 and bits == 32 else 0
        return (*plain, alpha), end
    count = 4 if size >= 56 or packing == _ALPHA_FIELDS else 3
    if size == _INFO:  # they follow the header
        end += 4 * count
    if len(data) < 54 + 4 * count:
        raise UndecodableImage("the BMP's header is truncated or damaged")
    masks = struct.unpack_from(f"<{count}I", data, 54)
    if not any(masks):
        return (*plain, 0xFF000000 if bits == 32 else 0), end
    return (masks[0], masks[1], masks[2], masks[3] if count == 4 else 0), end


def _palette(data: bytes, begin: int, start: int, bits: int, colours: int, entry: int) -> Pixels:
    """RGBA, as many colours as there may be indices; those that the file does not have are black."""
    palette = np.zeros((1 << bits if bits <= 8 else 0, 4), np.uint8)
    palette[:, 3:] = 255
    count = min(colours or len(palette), len(palette), max(0, min(start, len(data)) - begin) // entry)
    stored = np.frombuffer(data, np.uint8, count * entry, begin).reshape(count, entry)
    palette[:count, :3] = stored[:, 2::-1]
    return palette


def _rows(data: bytes, header: _Header) -> Pixels:
    """The packed rows as stored, uint8 [height, bytes]. The last one's padding may be missing."""
    length = header.row_bytes * header.height
    stored = np.frombuffer(data, np.uint8)[header.start : header.start + length]
    if length - len(stored) > 3:
        raise UndecodableImage("the BMP image is truncated or damaged")
    stored = np.pad(stored, (0, length - len(stored))) if len(stored) < length else stored
    return stored.reshape(header.height, header.row_bytes)


def _unpacked(rows: Pixels, header: _Header) -> Pixels:
    """RGB or RGBA, uint8 [height, width, 3 or 4]."""
    bits, width = header.bits, header.width
    if bits == 24:
        return rows[:, : 3 * width].reshape(len(rows), width, 3)[..., ::-1]
    if bits in (16, 32):
        words = rows.view("<u2" if bits == 16 else "<u4")[:, :width]
        channels = [_channel(words, mask) for mask in header.masks]
        # An alpha that is nowhere seen was not meant, as browsers have it.
        return np.stack(channels if channels[3].any() else channels[:3], axis=-1)
    shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)  # the first pixel is in the highest bits
    indices = (rows[..., np.newaxis] >> shifts) & np.uint8((1 << bits) - 1)
    return header.palette[indices.reshape(len(rows), -1)[:, :width], :3]


def _channel(words: npt.NDArray[np.unsignedinteger], mask: int) -> Pixels:
    """The bits under `mask`, of any number, spread over 0 to 255."""
    if not mask:
        return np.zeros(words.shape, np.uint8)
    shift = (mask & -mask).bit_length() - 1
    top = mask >> shift
    values = (words.astype(np.uint32) & np.uint32(mask)) >> np.uint32(shift)
    return np.asarray(values if top == 255 else values * np.float64(255 / top) + 0.5, dtype=np.uint8)


def _runs(data: bytes, header: _Header) -> Pixels:
    """Palette indices of a file of run lengths, uint8 [height, width] from the bottom."""
    width, height, nibbles = header.width, header.height, header.packing == _RLE4
    canvas, written = bytearray(width * height), 0
    x = y = 0
    position = header.start
    for _ in range(_MAX_CODES):
        if position + 1 >= len(data) or y >= height:
            break
        count, value = data[position], data[position + 1]
        position += 2
        if count:
            run = bytes((value >> 4, value & 15) * ((count + 1) // 2)) if nibbles else bytes((value,)) * count
        elif value == _END_OF_ROW:
            x, y = 0, y + 1
            continue
        elif value == _END:
            return _complete(canvas, written, header)
        elif value == _MOVE:
            if position + 1 >= len(data):
                break
            x, y = x + data[position], y + data[position + 1]
            position += 2
            continue
        else:
            count, stored = value, (value + 1) // 2 if nibbles else value
            run = data[position : position + stored]
            if len(run) < stored:
                break
            if nibbles:
                run = bytes(nibble for byte in run for nibble in (byte >> 4, byte & 15))
            position += stored + stored % 2
        room = max(0, min(count, width - x))  # what is beyond the row is cut off
        canvas[y * width + x : y * width + x + room] = run[:room]
        written, x = written + room, x + count
    else:
        raise UnsupportedImage(f"a BMP of more than {_MAX_CODES:,} run lengths is not read; save it unpacked")
    if y < height - 1 or (y == height - 1 and x < width):
        raise UndecodableImage("the BMP image is truncated or damaged")
    return _complete(canvas, written, header)


def _complete(canvas: bytearray, written: int, header: _Header) -> Pixels:
    """What is left out has no colour: readers make it black, transparent or the palette's first."""
    if written < len(canvas):
        raise UnsupportedImage("a BMP whose run lengths leave pixels out is not read; save it unpacked")
    return np.frombuffer(canvas, np.uint8).reshape(header.height, header.width)
