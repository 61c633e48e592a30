"""ICC profiles written by hand (ICC.1:2001-04), and what they make of colours, computed another way."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]

# Primaries (x, y) of red, green and blue; all of white point D65, adapted to the D50 of profiles by Bradford's matrix.
SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
P3 = ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06))
ADOBE = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
_D65, _D50 = np.array([0.9505, 1.0, 1.089]), np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def to_xyz(primaries: Sequence[tuple[float, float]]) -> Matrix:
    """Linear RGB to XYZ of D50, float64 [3, 3]."""
    columns = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in primaries]).T
    matrix = columns * np.linalg.solve(columns, _D65)
    adaptation = np.linalg.inv(_BRADFORD) @ np.diag((_BRADFORD @ _D50) / (_BRADFORD @ _D65)) @ _BRADFORD
    return np.asarray(adaptation @ matrix)


def _tags(space: bytes, kind: bytes, pcs: bytes, tags: dict[bytes, bytes]) -> bytes:
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = struct.pack(">I4sI4s4s4s", start + len(body), bytes(4), 0x02100000, kind, space, pcs)
    header = (header + bytes(12) + b"acsp").ljust(68, b"\0") + struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D)
    return header.ljust(128, b"\0") + table + body


def _fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def _text(name: bytes) -> dict[bytes, bytes]:
    words = name + b"\0"
    return {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", len(words)) + words + bytes(78),
        b"cprt": b"text" + bytes(4) + b"none\0",
        b"wtpt": b"XYZ " + bytes(4) + _fixed(*_D50),
    }


def _curve(gamma: float) -> bytes:
    """A power, or sRGB's own curve for a gamma of 0, as 1024 points."""
    if gamma:
        return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))
    points = np.round(65535 * linear(np.linspace(0, 1, 1024), 0)).astype(">u2")
    return b"curv" + bytes(4) + struct.pack(">I", len(points)) + points.tobytes()


def linear(values: npt.NDArray[np.float64], gamma: float) -> npt.NDArray[np.float64]:
    """What a curve makes of values from 0 to 1."""
    if gamma:
        return np.asarray(values**gamma)
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def rgb_profile(primaries: Sequence[tuple[float, float]], gamma: float, *, kind: bytes = b"mntr") -> bytes:
    matrix = to_xyz(primaries)
    columns = {n: b"XYZ " + bytes(4) + _fixed(*matrix[:, i]) for i, n in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _curve(gamma))
    return _tags(b"RGB ", kind, b"XYZ ", {**_text(b"by hand"), **columns, **curves})


def grey_profile(gamma: float) -> bytes:
    return _tags(b"GRAY", b"mntr", b"XYZ ", {**_text(b"by hand"), b"kTRC": _curve(gamma)})


def ink_profile(lab: npt.NDArray[np.float64]) -> bytes:
    """Four inks by a table of the colours, L*a*b* [2, 2, 2, 2, 3], of no or full ink each."""
    encoded = np.round(np.stack([lab[..., 0] * 2.55, lab[..., 1] + 128, lab[..., 2] + 128], axis=-1)).astype(np.uint8)
    straight = bytes(range(256))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    table += 4 * straight + encoded.tobytes() + 3 * straight
    return _tags(b"CMYK", b"prtr", b"Lab ", {**_text(b"by hand"), b"A2B0": table})


def as_srgb(
    pixels: npt.NDArray[np.uint8], primaries: Sequence[tuple[float, float]], gamma: float
) -> npt.NDArray[np.float64]:
    """The colours of a profile as sRGB, 0 to 255."""
    light = linear(pixels / 255, gamma) @ to_xyz(primaries).T @ np.linalg.inv(to_xyz(SRGB)).T
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
