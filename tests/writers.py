"""Image files written by hand, so that no library that reads them has a part in what they hold."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.integer]

ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def packed(samples: Samples, depth: int, order: str = ">") -> list[bytes]:
    """Rows [height, width, channels] of samples as bytes, the first in the highest bits."""
    flat = samples.reshape(len(samples), -1)
    if depth >= 8:
        return [row.astype(f"{order}u{depth // 8}").tobytes() for row in flat]
    bits = (flat[..., np.newaxis] >> np.arange(depth - 1, -1, -1)) & 1
    return [np.packbits(row.reshape(-1).astype(np.uint8)).tobytes() for row in bits]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    samples: Samples,
    depth: int,
    colour: int,
    *,
    before: Iterable[tuple[bytes, bytes]] = (),
    after: Iterable[tuple[bytes, bytes]] = (),
    interlaced: bool = False,
) -> bytes:
    """`samples` [height, width, channels]; `colour` is 0 grey, 2 RGB, 3 palette, 4 grey + alpha, 6 RGBA."""
    height, width = samples.shape[:2]
    passes = [samples[y::dy, x::dx] for x, y, dx, dy in ADAM7] if interlaced else [samples]
    rows = [row for part in passes if part.size for row in packed(part, depth)]
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    chunks = [(b"IHDR", header), *before, (b"IDAT", pixels), *after, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, body) for kind, body in chunks)


def _packbits(data: bytes) -> bytes:
    return b"".join(bytes([len(data[i : i + 128]) - 1]) + data[i : i + 128] for i in range(0, len(data), 128))


COMPRESSIONS = {1: bytes, 8: zlib.compress, 32773: _packbits}


def tiff(parts: Sequence[bytes], tags: dict[int, Any], order: str = "<") -> bytes:
    """Strips, or tiles where there are tags of those, with the places of each; a value is a short, or several."""
    where, counts = (324, 325) if 322 in tags else (273, 279)
    tags = {**tags, counts: [len(part) for part in parts]}
    count = len(tags) + 1
    end = 8 + 2 + 12 * count + 4
    long = {tag: value if isinstance(value, (list, tuple)) else [value] for tag, value in tags.items()}
    start = end + sum(4 * len(value) for value in long.values()) + 4 * len(parts)
    long[where] = [start + sum(map(len, parts[:i])) for i in range(len(parts))]
    entries, outside = b"", b""
    for tag, values in sorted(long.items()):
        kind, letter = (4, "I") if tag in (where, counts, 256, 257) else (3, "H")
        body = struct.pack(f"{order}{len(values)}{letter}", *values)
        inline = len(body) <= 4
        place = body.ljust(4, b"\0") if inline else struct.pack(f"{order}I", end + len(outside))
        outside += b"" if inline else body.ljust(4 * len(values), b"\0")
        entries += struct.pack(f"{order}HHI", tag, kind, len(values)) + place
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    body = head + struct.pack(f"{order}H", count) + entries + bytes(4) + outside
    return body.ljust(start, b"\0") + b"".join(parts)


def tiff_of(
    samples: Samples,
    depth: int,
    photometric: int,
    *,
    order: str = "<",
    compression: int = 1,
    planar: bool = False,
    tiled: bool = False,
    rows: int | None = None,
    **tags: Any,
) -> bytes:
    """`samples` [height, width, channels]; `tags` are named t338 and so on."""
    height, width, channels = samples.shape
    planes = [samples[..., [c]] for c in range(channels)] if planar else [samples]
    parts: list[bytes] = []
    for plane in planes:
        if tiled:
            padded = np.pad(plane, ((0, -height % 16), (0, -width % 16), (0, 0)))
            blocks = [
                padded[y : y + 16, x : x + 16]
                for y in range(0, padded.shape[0], 16)
                for x in range(0, padded.shape[1], 16)
            ]
        else:
            blocks = [plane[y : y + (rows or height)] for y in range(0, height, rows or height)]
        parts += [COMPRESSIONS[compression](b"".join(packed(block, depth, order))) for block in blocks]
    shape = {322: 16, 323: 16} if tiled else {278: rows or height}
    own = {int(name[1:]): value for name, value in tags.items()}
    document = {
        256: width, 257: height, 258: [depth] * channels, 259: compression, 262: photometric, 277: channels,
        284: 2 if planar else 1, **shape, **own,
    }  # fmt: skip
    return tiff(parts, document, order)


def bmp(
    rows: Sequence[bytes] | bytes,
    width: int,
    height: int,
    bits: int,
    *,
    size: int = 40,
    packing: int = 0,
    masks: Sequence[int] = (),
    palette: bytes = b"",
    colours: int = 0,
) -> bytes:
    """Rows from the bottom, without their padding; or the bytes of run lengths."""
    pixels = rows if isinstance(rows, bytes) else b"".join(row + bytes(-len(row) % 4) for row in rows)
    if size == 12:
        header = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        header = struct.pack("<IiiHHIIiiII", size, width, height, 1, bits, packing, len(pixels), 0, 0, colours, 0)
        header = (header + struct.pack(f"<{len(masks)}I", *masks)).ljust(size, b"\0")
    start = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + header + palette + pixels


def segment(marker: int, body: bytes) -> bytes:
    """Of a JPEG."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body
