"""Whatever is sent, the answer is a 4xx with a JSON error, or a decision; never a 5xx, and the service lives on."""

from __future__ import annotations

import base64
import socket
import subprocess
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import psutil
import pytest

from tests import images
from tests.small import calibration_images, encode

PNG = encode(np.zeros((20, 20, 3), np.uint8))
NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)

FORM = b"--b\r\nContent-Disposition: form-data; name=image\r\n\r\ntext\r\n--b--\r\n"

REFUSED = [
    pytest.param(b"this is no image", 415, "not_an_image", id="not an image"),
    pytest.param(b"", 400, "empty_image", id="empty"),
    pytest.param(encode(NOISE, "JPEG")[:1500], 422, "undecodable_image", id="truncated JPEG"),
    pytest.param(encode(NOISE)[:1500], 422, "undecodable_image", id="truncated PNG"),
    pytest.param(images.huge_png(), 413, "image_too_large", id="150 megapixels"),
    pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "not_an_image", id="SVG"),
    pytest.param(b"P6 1 1 255 \0\0\0", 415, "not_an_image", id="PPM"),
]

CLASSIFIED = [
    pytest.param(encode(np.zeros((1, 1, 3), np.uint8)), id="one pixel"),
    pytest.param(images.animated_gif(), id="animated GIF"),
    pytest.param(images.cmyk_jpeg(), id="CMYK JPEG"),
    pytest.param(images.sixteen_bit_png(), id="16-bit PNG"),
    pytest.param(images.transparent_palette_png(), id="palette with alpha"),
    pytest.param(encode(NOISE, "WEBP"), id="WebP"),
    pytest.param(encode(NOISE, "BMP"), id="BMP"),
    pytest.param(encode(NOISE, "TIFF"), id="TIFF"),
]


@pytest.fixture(autouse=True)
def _service_lives_on(client: httpx.Client) -> Iterator[None]:
    yield
    assert client.post("/classify", content=PNG).status_code == 200


def error_code(response: httpx.Response, status: int) -> Any:
    """The error's code, of an answer with that status and nothing but an error in it."""
    assert response.status_code == status, response.text
    body = response.json()
    assert list(body) == ["error"]
    assert list(body["error"]) == ["code", "message"]
    assert "Traceback" not in body["error"]["message"]
    return body["error"]["code"]


@pytest.mark.parametrize(("data", "status", "code"), REFUSED)
def test_refused_as_a_raw_body_and_in_a_form(client: httpx.Client, data: bytes, status: int, code: str) -> None:
    assert error_code(client.post("/classify", content=data), status) == code
    assert error_code(client.post("/classify", files={"image": data}), status) == code


@pytest.mark.parametrize("data", CLASSIFIED)
def test_unusual_images_are_classified(client: httpx.Client, data: bytes) -> None:
    assert client.post("/classify", files={"image": data}).json()["decision"] in ("accept", "reject")


def test_the_name_and_the_content_type_do_not_matter(client: httpx.Client) -> None:
    response = client.post("/classify", files={"image": ("photo.jpg", PNG, "image/jpeg")})
    assert response.json() == client.post("/classify", content=PNG).json()


def test_a_huge_image_is_refused_before_its_pixels_are_decoded(
    client: httpx.Client, server: tuple[str, subprocess.Popen[bytes]]
) -> None:
    data = images.huge_png()
    before = _resident(server[1])
    for _ in range(5):
        client.post("/classify", content=data)
    assert _resident(server[1]) - before < 50e6


@pytest.mark.parametrize("path", ["/classify", "/classify_batch"])
def test_a_body_over_the_limit_is_refused_without_reading_it_all(
    server: tuple[str, subprocess.Popen[bytes]], path: str
) -> None:
    """A terabyte is announced and almost nothing is sent; the refusal comes."""
    address = urlsplit(server[0])
    assert address.port is not None
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {10**12}\r\n"
        connection.sendall((head + "Content-Type: multipart/form-data; boundary=b\r\n\r\n").encode() + b"x" * 1000)
        answer = b""
        while b"}}" not in answer:
            answer += connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"body_too_large" in answer


def test_a_chunked_body_over_the_limit_is_refused(client: httpx.Client) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(40):
            yield b"x" * 2**20

    try:
        response = client.post("/classify", content=chunks())
    except httpx.TransportError:  # the connection may be closed while the rest is still being sent
        return
    assert error_code(response, 413) == "body_too_large"


def test_wrong_field_name(client: httpx.Client) -> None:
    response = client.post("/classify", files={"file": PNG})
    assert error_code(response, 422) == "missing_image"
    assert "'image'" in response.json()["error"]["message"]
    assert "file" in response.json()["error"]["message"]


def test_a_form_without_a_file(client: httpx.Client) -> None:
    body = b"--b\r\nContent-Disposition: form-data; name=image\r\n\r\ntext\r\n--b--\r\n"
    response = client.post("/classify", content=body, headers={"content-type": "multipart/form-data; boundary=b"})
    assert error_code(response, 422) == "missing_image"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=b", b"garbage"),
        ("multipart/form-data; boundary=b; charset=undefined", FORM),
        ("multipart/form-data; boundary=b; charset=nonsense", FORM),
        ("multipart/form-data; boundary=b; charset=utf-7", FORM.replace(b"image", b'"+2AA-"')),
        ("multipart/form-data; boundary=b; charset=unicode_escape", FORM.replace(b"image", b"\\ud800")),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: nonsense\r\n\r\nx\r\n--b--\r\n"),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data; name=image; filename=x\r\n\r\nx"),
    ],
)
def test_malformed_multipart(client: httpx.Client, kind: str, body: bytes) -> None:
    for path in ("/classify", "/classify_batch"):
        response = client.post(path, content=body, headers={"content-type": kind})
        assert response.status_code in (400, 415, 422)
        assert "error" in response.json()


def test_base64_json_is_told_how_to_send_an_image(client: httpx.Client) -> None:
    response = client.post("/classify", json={"image": base64.b64encode(PNG).decode()})
    assert error_code(response, 415) == "json_body"
    assert "curl -F image=@" in response.json()["error"]["message"]


def test_batch_needs_multipart(client: httpx.Client) -> None:
    assert error_code(client.post("/classify_batch", content=PNG), 415) == "multipart_expected"


def test_too_many_images(client: httpx.Client) -> None:
    files = [("images", encode(image)) for image in calibration_images(9)]
    assert error_code(client.post("/classify_batch", files=files), 413) == "too_many_images"


def test_an_oversized_image_in_a_batch_gets_its_own_error(client: httpx.Client) -> None:
    results = client.post("/classify_batch", files=[("images", PNG), ("images", images.huge_png())]).json()["results"]
    assert results[0]["decision"] in ("accept", "reject")
    assert results[1]["error"]["code"] == "image_too_large"


def test_unknown_route(client: httpx.Client) -> None:
    assert error_code(client.get("/nothing/here"), 404) == "not_found"


@pytest.mark.parametrize(("method", "path"), [("GET", "/classify"), ("PUT", "/classify_batch"), ("POST", "/model")])
def test_wrong_method(client: httpx.Client, method: str, path: str) -> None:
    assert error_code(client.request(method, path), 405) == "method_not_allowed"


@pytest.mark.parametrize("path", ["/page/../service.py", "/page/%2e%2e/service.py", "/page/samples/../../app.py"])
def test_static_files_stay_in_their_folder(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 404


def _resident(process: subprocess.Popen[bytes]) -> int:
    parent = psutil.Process(process.pid)
    return sum(p.memory_info().rss for p in [parent, *parent.children(recursive=True)])
