"""The images of a multipart/form-data body, kept in memory: nothing that a client sends is written to a disk."""

from __future__ import annotations

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from serving.exceptions import RequestError

_MAX_OTHERS = 16  # parts of other names


async def read_parts(request: Request, receive: Receive, field: str, max_parts: int) -> list[bytes]:
    """The contents of all parts called `field`, in order; of others, which are refused, nothing is kept.

    Args:
        request: whose headers name the boundary.
        receive: gives the body.
        field: the parts' name. A part needs no file name; but text, as a form's input of that name sends it, is no file.
        max_parts: bound on their number.

    Raises:
        RequestError: a body that is malformed, has none of them, too many, or others.
        ClientDisconnect: the client has gone.
    """
    boundary = parse_options_header(request.headers["content-type"])[1].get(b"boundary")
    if not boundary:
        raise _malformed("its content type names no boundary")
    parts = _Parts(field, max_parts)
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": parts.on_part_begin,
                "on_part_data": parts.on_part_data,
                "on_part_end": parts.on_part_end,
                "on_header_field": parts.on_header_field,
                "on_header_value": parts.on_header_value,
                "on_header_end": parts.on_header_end,
                "on_headers_finished": parts.on_headers_finished,
            },
        )
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            parser.write(message.get("body", b""))
            more = message.get("more_body", False)
    except FormParserError as error:
        raise _malformed(str(error)) from error
    return parts.finished()


class _Parts:
    """What the parser calls."""

    def __init__(self, field: str, max_parts: int) -> None:
        self._field = field.encode()
        self._max_parts = max_parts
        self._found: list[bytes] = []
        self._others: set[bytes] = set()
        self._number_of_others = 0
        self._open = False
        self._header = (bytearray(), bytearray())
        self._headers: dict[bytes, bytes] = {}
        self._data: list[bytes] | None = None  # of the part that is being read; None for one that is not kept

    def on_part_begin(self) -> None:
        self._open, self._headers, self._data = True, {}, None

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header[0].extend(data[start:end])

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1].extend(data[start:end])

    def on_header_end(self) -> None:
        name, value = self._header
        self._headers[bytes(name).lower()] = bytes(value)
        self._header = (bytearray(), bytearray())

    def on_headers_finished(self) -> None:
        name = self._disposition().get(b"name")
        if name is None:
            raise _malformed("a part's Content-Disposition has no name")
        if name == self._field:
            if len(self._found) == self._max_parts:
                raise RequestError(413, "too_many_images", f"at most {self._max_parts} image(s) a request")
            self._data = []
            return
        self._others.add(name)
        self._number_of_others += 1
        if self._number_of_others > _MAX_OTHERS:
            raise _malformed(f"it has more than {_MAX_OTHERS} parts of other names than {self._field.decode()!r}")

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._data is not None:
            self._data.append(data[start:end])

    def on_part_end(self) -> None:
        self._open = False
        if self._data is None:
            return
        content, self._data = b"".join(self._data), None
        if self._is_file() or not _is_text(content):
            self._found.append(content)
        else:
            self._others.add(self._field + b" (text)")

    def finished(self) -> list[bytes]:
        """The parts, when the whole body has been read."""
        if self._open:
            raise _malformed("it ends within a part")
        if self._found and not self._others:
            return self._found
        found = ", ".join(sorted(ascii(name.decode("utf-8", "replace")) for name in self._others)) or "none"
        field = self._field.decode()
        if not self._found:
            raise RequestError(
                422, "missing_image", f"expected a file in the multipart field {field!r}; found fields: {found}"
            )
        raise RequestError(
            400,
            "bad_request",
            f"the multipart body takes files in the field {field!r} alone, and options are asked for in the query, as "
            f"?alpha=0.01; found other fields: {found}",
        )

    def _disposition(self) -> dict[bytes, bytes]:
        return parse_options_header(self._headers.get(b"content-disposition"))[1]

    def _is_file(self) -> bool:
        """Whether the part says so, by a file name in either notation or by a content type that is no text."""
        named = b"filename" in self._disposition() or b"filename*" in self._headers[b"content-disposition"].lower()
        return named or not self._headers.get(b"content-type", b"text/plain").lower().startswith(b"text/")


def _is_text(content: bytes) -> bool:
    """Whether a person may have typed it; every image has a NUL, or bytes that are no UTF-8."""
    try:
        return "\0" not in content.decode()
    except UnicodeDecodeError:
        return False


def _malformed(reason: str) -> RequestError:
    return RequestError(400, "malformed_multipart", f"the multipart body is malformed: {reason}")
