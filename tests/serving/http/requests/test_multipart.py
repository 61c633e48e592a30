from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence

import pytest
from starlette.requests import ClientDisconnect, Request

from serving.exceptions import RequestError
from serving.http.requests.multipart import read_parts
from tests.small import calibration_images, encode

PNG = encode(calibration_images(1)[0])
KIND = "multipart/form-data; boundary=b"


def part(headers: bytes, content: bytes = PNG) -> bytes:
    return b"--b\r\n" + headers + b"\r\n\r\n" + content + b"\r\n"


def read(body: bytes, kind: str = KIND, max_parts: int = 4, step: int = 7) -> list[bytes]:
    chunks = [body[i : i + step] for i in range(0, len(body), step)]
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    return received([*messages, {"type": "http.request"}], kind, max_parts)


def received(messages: Sequence[dict[str, object]], kind: str = KIND, max_parts: int = 4) -> list[bytes]:
    waiting = iter(messages)
    request = Request({"type": "http", "headers": [(b"content-type", kind.encode())]})

    async def receive() -> dict[str, object]:
        return next(waiting)

    return asyncio.run(read_parts(request, receive, "images", max_parts))


DISPOSITION = b"Content-Disposition: form-data; name=images"
ALPHA = b"Content-Disposition: form-data; name=alpha"


@pytest.mark.parametrize(
    "headers",
    [
        DISPOSITION + b"; filename=a.png",
        b'content-disposition: form-data; name="images"; filename="a;b.png"',
        DISPOSITION + b"; filename*=UTF-8''na%C3%AFve.png",
        DISPOSITION + b"; FILENAME*=UTF-8''a.png",
        DISPOSITION,
        DISPOSITION + b"\r\nContent-Type: image/png",
        b"Content-Type: text/plain\r\n" + DISPOSITION + b"; filename=",
    ],
)
@pytest.mark.parametrize("step", [1, 7, 10**6])
def test_a_part_is_taken_with_and_without_a_file_name(headers: bytes, step: int) -> None:
    assert read(part(headers) + b"--b--\r\n", step=step) == [PNG]


def test_parts_keep_their_order() -> None:
    first, second = part(DISPOSITION + b"; filename=1", b"1"), part(DISPOSITION + b"; filename=2", b"")
    assert read(first + second + b"--b--\r\n") == [b"1", b""]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (part(DISPOSITION, b"typed") + b"--b--", 422, r"expected a file .*found fields: 'images \(text\)'"),
        (part(b"Content-Disposition: form-data; name=\xff") + b"--b--", 422, "found fields: '"),
        (part(b"Content-Disposition: form-data") + b"--b--", 400, "has no name"),
        (part(b"X: y") + b"--b--", 400, "has no name"),
        (b"--b--\r\n", 422, "found fields: none"),
        (part(DISPOSITION)[:-40], 400, "ends within a part"),
        (part(DISPOSITION) * 5 + b"--b--", 413, r"at most 4 image\(s\)"),
        (part(b"Content-Disposition: form-data; name=x") * 17, 400, "more than 16 parts of other names"),
        (b"garbage" * 100, 400, "malformed"),
        (part(ALPHA, b"0.01") + part(DISPOSITION) + b"--b--", 400, r"in the query, as \?alpha=0.01; .*: 'alpha'"),
        (part(DISPOSITION) + part(DISPOSITION, b"typed") + b"--b--", 400, r"other fields: 'images \(text\)'"),
    ],
)
def test_what_is_refused(body: bytes, status: int, message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        read(body)
    assert caught.value.status == status


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=", f"{KIND[:-1]}{'b' * 999}"])
def test_boundaries_that_are_none(kind: str) -> None:
    with pytest.raises(RequestError, match="malformed"):
        read(b"--b--", kind)


def test_a_client_that_goes() -> None:
    with pytest.raises(ClientDisconnect):
        received([{"type": "http.request", "body": b"--b", "more_body": True}, {"type": "http.disconnect"}])


def test_nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_: object, **__: object) -> None:
        raise AssertionError("a temporary file")

    for name in ("TemporaryFile", "NamedTemporaryFile", "SpooledTemporaryFile", "mkstemp"):
        monkeypatch.setattr(tempfile, name, opened)
    large = bytes(3 * 1024 * 1024)
    assert read(part(DISPOSITION + b"; filename=a", large) + b"--b--", step=65536) == [large]
