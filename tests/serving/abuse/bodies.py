"""Strategies for bodies that nobody means well with: noise, and good files cut, flipped, stretched and spliced."""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
import orjson
from hypothesis import strategies as st

from tests import images
from tests.small import calibration_images, encode

PIXELS = calibration_images(2)


class Post(NamedTuple):
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes


def _npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, PIXELS)
    return buffer.getvalue()


def _infer() -> bytes:
    entry = {"name": "images", "datatype": "UINT8", "shape": [1, 16, 16, 3], "data": PIXELS[0].ravel().tolist()}
    return orjson.dumps({"id": "1", "inputs": [entry], "outputs": [{"name": "accept"}]})


def _form(field: bytes, *files: bytes) -> bytes:
    head = b'--b\r\nContent-Disposition: form-data; name="%s"; filename="x"\r\nContent-Type: image/png\r\n\r\n' % field
    return b"".join(head + file + b"\r\n" for file in files) + b"--b--\r\n"


FILES = [
    *(encode(PIXELS[0], kind) for kind in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")),
    encode(PIXELS[0], "TIFF", compression="tiff_lzw"),
    encode(PIXELS[0], "JPEG", progressive=True),
    encode(PIXELS[0], "WEBP", lossless=True),
    images.animated_gif(),
    images.cmyk_jpeg(),
    images.sixteen_bit_png(),
    images.transparent_palette_png(),
]
_FORM = "multipart/form-data; boundary=b"
GOOD = [
    *(Post("/classify", {}, file) for file in FILES),
    Post("/classify", {"content-type": _FORM}, _form(b"image", FILES[0])),
    Post("/classify_batch", {"content-type": _FORM}, _form(b"images", FILES[0], FILES[1])),
    Post("/classify_batch", {"content-type": "application/x-npy"}, _npy()),
    Post("/v2/models/small/infer", {}, _infer()),
    Post("/v2/models/small/infer", {"inference-header-content-length": "90"}, _infer()),
]


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """`data` after up to four of: bytes overwritten, a stretch removed, repeated or replaced by noise, the end cut."""
    found = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, max(0, len(found) - 1)))
        stop = min(len(found), start + draw(st.integers(1, 64)))
        kind = draw(st.sampled_from(("overwrite", "remove", "repeat", "noise", "cut")))
        if kind == "overwrite":
            found[start : start + 1] = draw(st.sampled_from((b"\x00", b"\xff", b"\x7f", b"\x80")))
        elif kind == "remove":
            del found[start:stop]
        elif kind == "repeat":
            found[start:start] = found[start:stop] * draw(st.integers(1, 50))
        elif kind == "noise":
            found[start:stop] = draw(st.binary(min_size=0, max_size=64))
        else:
            del found[start:]
    return bytes(found)


FILE = st.one_of(st.binary(max_size=300), st.sampled_from(FILES).flatmap(damaged))

KINDS = st.sampled_from(
    ("", "image/png", "application/json", "application/x-npy", _FORM, "multipart/form-data", "text/plain; charset=x")
)


@st.composite
def posts(draw: st.DrawFn) -> Post:
    """A request whose body is damaged, or noise, and whose headers may be another request's."""
    path, headers, body = draw(st.sampled_from(GOOD))
    if draw(st.integers(0, 9)) == 0:
        headers = {"content-type": draw(KINDS)}
    if draw(st.integers(0, 9)) == 0:
        path = draw(st.sampled_from(("/classify", "/classify_batch", "/v2/models/small/infer", "/model", "/x")))
    return Post(path, headers, draw(st.one_of(damaged(body), damaged(body), st.binary(max_size=300))))
