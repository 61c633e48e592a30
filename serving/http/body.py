"""Reading images out of request bodies, with a bound on every byte before it is kept."""

from __future__ import annotations

import numpy as np
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive

from serving import npy
from serving.deciding.pipeline import Images
from serving.http.errors import RequestError

# Boundaries and part headers of a multipart body, beside the image itself.
_OVERHEAD = 64 * 1024


async def read_image(request: Request, max_bytes: int) -> bytes:
    """The image of a /classify request: multipart field ``image``, or the whole body.

    Raises:
        RequestError: no such field, a body over the limit, or a body that can't be an image.
    """
    kind = _content_type(request)
    limit = max_bytes + _OVERHEAD
    if kind == "application/json":
        raise RequestError(
            415,
            "json_body",
            "send the image itself, not JSON or base64: `curl -F image=@photo.jpg URL/classify`, "
            "or its bytes as the raw body",
        )
    if kind != "multipart/form-data":
        return await read_body(request, limit)
    form = await _form(request, limit, max_files=1)
    try:
        (image,) = _files(form, "image")
        return await image.read()
    finally:
        await form.close()


async def read_images(
    request: Request, shape: tuple[int, int, int], max_images: int, max_body: int
) -> list[bytes] | Images:
    """The images of a /classify_batch request: every multipart field ``images``, in order, or an .npy array.

    Args:
        request: whose body is read.
        shape: (height, width, 3) of the model's images.
        max_images, max_body: bounds on their number and on the body's bytes.

    Raises:
        RequestError: no such field, too many, another content type, or a body over the limit.
    """
    kind = _content_type(request)
    if kind == "application/x-npy":
        limit = min(max_body, npy.MAX_HEADER + max_images * int(np.prod(shape)))
        try:
            return npy.parse(await read_body(request, limit), shape, max_images)
        except ValueError as error:
            raise RequestError(422, "unusable_array", str(error)) from error
    if kind != "multipart/form-data":
        raise RequestError(
            415,
            "multipart_expected",
            "send multipart/form-data: `curl -F images=@1.jpg -F images=@2.jpg URL/classify_batch`, "
            "or a uint8 [N, H, W, 3] array as application/x-npy",
        )
    form = await _form(request, max_body, max_files=max_images)
    try:
        return [await image.read() for image in _files(form, "images")]
    finally:
        await form.close()


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body.

    Raises:
        RequestError: it has more than `limit` bytes.
        ClientDisconnect: the client has gone.
    """
    receive = _bounded(request, limit)
    chunks, more = [], True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunks.append(message.get("body", b""))
        more = message.get("more_body", False)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _bounded(request: Request, limit: int) -> Receive:
    """The request's `receive`, that takes no more than `limit` bytes; a longer body is refused without being read."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and (len(length) > 18 or int(length) > limit):
        raise _too_large(limit)
    received = 0

    async def receive() -> Message:
        nonlocal received
        message = await request.receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise _too_large(limit)
        return message

    return receive


def _too_large(limit: int) -> RequestError:
    """What is left of a body that is refused is not read, so the connection can't carry another request."""
    return RequestError(413, "body_too_large", f"the body has more than {limit:,} bytes", connection="close")


async def _form(request: Request, limit: int, max_files: int) -> FormData:
    try:
        return await Request(request.scope, _bounded(request, limit)).form(max_files=max_files, max_fields=16)
    except HTTPException as error:  # how Starlette reports what its parser refuses
        if error.detail.startswith("Too many files"):
            raise RequestError(413, "too_many_images", f"at most {max_files} image(s) a request") from error
        raise RequestError(400, "malformed_multipart", f"the multipart body is malformed: {error.detail}") from error
    except (UnicodeError, LookupError) as error:  # names in an encoding that its header does not keep to
        raise RequestError(400, "malformed_multipart", f"the multipart body's names can't be read: {error}") from error


def _files(form: FormData, field: str) -> list[UploadFile]:
    files = [value for name, value in form.multi_items() if name == field and isinstance(value, UploadFile)]
    if not files:
        found = ", ".join(sorted({ascii(name) for name in form})) or "none"
        raise RequestError(
            422, "missing_image", f"expected a file in the multipart field {field!r}; found fields: {found}"
        )
    return files
