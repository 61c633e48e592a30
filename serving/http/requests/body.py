"""Reading images out of request bodies, with a bound on every byte before it is kept."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import cast

import numpy as np
from numpy.lib import format as npy
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive

from serving.deciding.decider import Caller
from serving.deciding.job import Images
from serving.exceptions import RequestError
from serving.http.requests.client import client_of
from serving.http.requests.memory import Budget, Hold
from serving.http.requests.multipart import read_parts
from serving.settings import OVERHEAD

_GZIP = b"\x1f\x8b"

_NPY_HEADER = 4096  # bytes at most; numpy itself writes 128 for such an array


@contextmanager
def holding(request: Request, bulk: bool) -> Iterator[Hold]:
    """Room for a request's body, from before it is read until its answer (:mod:`serving.http.requests.memory`)."""
    budget: Budget = request.app.state.budget
    with budget.holding(client_of(request.scope), bulk) as hold:
        yield hold


async def read_image(request: Request, max_bytes: int, hold: Hold) -> bytes:
    """The image of a /classify request: multipart field ``image``, or the whole body.

    Raises:
        RequestError: no such field, a body over the limit, or a body that can't be an image.
    """
    _refuse_compressed(request)
    kind = _content_type(request)
    limit = max_bytes + OVERHEAD
    if kind == "application/json":
        raise RequestError(
            415,
            "json_body",
            "send the image itself, not JSON or base64: `curl -F image=@photo.jpg URL/classify`, "
            "or its bytes as the raw body",
        )
    if kind != "multipart/form-data":
        image = await read_body(request, limit, hold)
    else:
        (image,) = await read_parts(request, _bounded(request, limit, hold), "image", max_parts=1)
    if image.startswith(_GZIP):
        raise RequestError(415, "content_encoding", "the image is compressed with gzip; send it as it is")
    return image


async def read_images(
    request: Request, shape: tuple[int, int, int], max_images: int, max_body: int, hold: Hold
) -> list[bytes] | Images:
    """The images of a /classify_batch request: every multipart field ``images``, in order, or an .npy array.

    Args:
        request: whose body is read.
        shape: (height, width, 3) of the model's images.
        max_images, max_body: bounds on their number and on the body's bytes.
        hold: room in memory.

    Raises:
        RequestError: no such field, too many, another content type, or a body over the limit.
    """
    _refuse_compressed(request)
    kind = _content_type(request)
    if kind == "application/x-npy":
        limit = min(max_body, _NPY_HEADER + max_images * int(np.prod(shape)))
        try:
            return parse_npy(await read_body(request, limit, hold), shape, max_images)
        except ValueError as error:
            raise RequestError(422, "unusable_array", str(error)) from error
    if kind != "multipart/form-data":
        raise RequestError(
            415,
            "multipart_expected",
            "send multipart/form-data: `curl -F images=@1.jpg -F images=@2.jpg URL/classify_batch`, "
            "or a uint8 [N, H, W, 3] array as application/x-npy",
        )
    return await read_parts(request, _bounded(request, max_body, hold), "images", max_images)


async def read_body(request: Request, limit: int, hold: Hold) -> bytes:
    """The whole body.

    Raises:
        RequestError: it has more than `limit` bytes, there is no room for it, or it is compressed.
        ClientDisconnect: the client has gone.
    """
    _refuse_compressed(request)
    receive = _bounded(request, limit, hold)
    chunks, more = [], True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunks.append(message.get("body", b""))
        more = message.get("more_body", False)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def parse_npy(data: bytes, shape: tuple[int, int, int], max_images: int) -> Images:
    """The images of a file in numpy's .npy format, a read-only view of `data`.

    The sender is never trusted: no pickle, no other type, no surprise in size.

    Args:
        data: the file's bytes.
        shape: (height, width, 3) that every image must have.
        max_images: bound on their number.

    Returns:
        uint8 [N, height, width, 3], 1 <= N <= max_images.

    Raises:
        ValueError: anything else.
    """
    expected = (
        f"expected a C-ordered uint8 array [1..{max_images}, {', '.join(map(str, shape))}] as numpy.save writes it"
    )
    file = io.BytesIO(data[:_NPY_HEADER])
    try:
        version = npy.read_magic(file)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        found, fortran, dtype = read(file, max_header_size=_NPY_HEADER)
    except Exception as error:  # the header is a Python literal, whose parser may raise anything
        raise ValueError(f"{expected}; the .npy header can't be read ({type(error).__name__})") from error
    wanted = len(found) == 4 and found[1:] == shape and 1 <= found[0] <= max_images
    if not wanted or dtype != np.uint8 or fortran:
        raise ValueError(f"{expected}; found {dtype} {list(found)}{' in Fortran order' if fortran else ''}")
    pixels = np.frombuffer(data, np.uint8, offset=file.tell())
    if pixels.size != np.prod(found):
        raise ValueError(f"{expected}; {list(found)} has {int(np.prod(found)):,} bytes, found {pixels.size:,}")
    return cast("Images", pixels.reshape(found))


def caller(request: Request) -> Caller:
    """The caller of a request whose body has been read."""
    return Caller(request.scope.get("oodgate.request_id", ""), partial(_gone, request), client_of(request.scope))


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _refuse_compressed(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise RequestError(
            415,
            "content_encoding",
            f"the body is compressed (content-encoding: {encoding[:40]!a}); send it uncompressed",
        )


def _bounded(request: Request, limit: int, hold: Hold) -> Receive:
    """The request's `receive`, that takes no more than `limit` bytes and than there is room for.

    A body that says beforehand that it is too long is refused without being read, and what does not fit now too.
    """
    length = request.headers.get("content-length", "")
    if length.isdecimal():
        if len(length) > 18 or int(length) > limit:
            raise _too_large(limit)
        hold.expect(int(length))

    async def receive() -> Message:
        message = await request.receive()
        size = len(message.get("body", b""))
        if hold.size + size > limit:
            raise _too_large(limit)
        hold.take(size)
        return message

    return receive


def _too_large(limit: int) -> RequestError:
    """What is left of the body is read and forgotten, within the body's time: many a client looks for an answer only when it
    has sent all, and would find the connection closed."""
    return RequestError(413, "body_too_large", f"the body has more than {limit:,} bytes")
