"""What clients do that read slowly, or not at all, that send headers without end, or a body after its answer."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from uvicorn.protocols.http.flow_control import FlowControl

from runtime.bundle import Bundle
from serving.http.connections import BoundedProtocol
from tests.serving.abuse.test_connections import PNG, answer, connect, request
from tests.serving.conftest import OODGATE_SERVE, serve

Server = tuple[str, "subprocess.Popen[bytes]"]

PROBE = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"

SETTINGS = {
    "OODGATE_WORKERS": "1",
    "OODGATE_HEADER_TIMEOUT": "2",
    "OODGATE_BODY_TIMEOUT": "2",
    "OODGATE_KEEP_ALIVE": "1",
    "OODGATE_MAX_CONCURRENCY": "2",
}


@pytest.fixture(scope="module")
def one(shared_bundle: Bundle) -> Iterator[Server]:
    with serve(*OODGATE_SERVE, OODGATE_BUNDLE=str(shared_bundle.path), **SETTINGS) as running:
        yield running


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n", b"body"),
        (PROBE, b"\r\n"),
        (PROBE, b""),
    ],
    ids=["a body after its answer", "an empty line", "nothing"],
)
def test_an_idle_connection_is_closed_whatever_came_last(one: Server, first: bytes, second: bytes) -> None:
    connection = connect(one[0], first)
    time.sleep(0.3)  # it is answered by now
    start = time.monotonic()
    connection.sendall(second)
    assert answer(connection).startswith(b"HTTP/1.1 ")
    assert 0.5 < time.monotonic() - start < 4


@pytest.mark.parametrize(
    "sent",
    [
        b"x: " + 70_000 * b"a" + b"\r\n\r\n",
        b"x: " + 3_000_000 * b"a",
        20_000 * b"a:\r\n",
        b"".join(b"x-%d: %s\r\n" % (i, 1000 * b"a") for i in range(70)) + b"\r\n",
    ],
    ids=["one", "one without end", "many", "long"],
)
def test_headers_without_end_are_refused(one: Server, sent: bytes) -> None:
    start = time.monotonic()
    with connect(one[0], b"GET /livez HTTP/1.1\r\n") as connection, contextlib.suppress(ConnectionError):
        connection.sendall(sent)
        found = answer(connection)
        assert found.startswith(b"HTTP/1.1 431")
        assert b'"code":"headers_too_large"' in found
    assert time.monotonic() - start < 1.5  # and not by the time that headers may take
    assert httpx.get(f"{one[0]}/livez").status_code == 200


def test_a_path_without_end_is_refused(one: Server) -> None:
    with connect(one[0], b"GET /" + 70_000 * b"a" + b" HTTP/1.1\r\n\r\n") as connection:
        assert connection.recv(12) == b"HTTP/1.1 431"


def test_headers_of_a_common_size_are_not(one: Server) -> None:
    """Each request of a connection has its own count, and bodies have none."""
    with httpx.Client() as client:
        for _ in range(4):
            assert client.get(f"{one[0]}/livez", headers={"cookie": 30_000 * "a"}).status_code == 200
            assert client.post(f"{one[0]}/classify", content=PNG + 200_000 * b"\0").status_code == 200


def unread(url: str) -> socket.socket:
    """A connection with hundreds of requests, of whose answers nothing is read."""
    address = urlsplit(url)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((address.hostname, address.port))
    connection.settimeout(0.5)
    with contextlib.suppress(OSError):
        connection.sendall(400 * b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n")
    return connection


def answered(url: str, status: int, seconds: float = 30) -> bool:
    """Whether an image gets this status within so long."""
    deadline = time.monotonic() + seconds
    while httpx.post(f"{url}/classify", content=PNG, timeout=30).status_code != status:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_who_does_not_read_is_not_waited_for(shared_bundle: Bundle, tmp_path: Path) -> None:
    """Neither by other clients nor by the end, and it is no error of the service."""
    log = tmp_path / "log"
    served = serve(*OODGATE_SERVE, log=log, OODGATE_BUNDLE=str(shared_bundle.path), **SETTINGS)
    with served as (url, process), contextlib.ExitStack() as stack:
        for _ in range(
            20
        ):  # the first may be given up before the second has come, where others keep the processor busy
            stack.enter_context(unread(url))
            if answered(url, 429, seconds=0.1):
                break
        else:
            pytest.fail("never were both places taken")
        assert answered(url, 200)
        for _ in range(2):
            stack.enter_context(unread(url))
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert "Traceback" not in log.read_text()


class Transport:
    """What a protocol asks of one."""

    closing = False

    def close(self) -> None:
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing


def test_who_reads_most_of_a_last_answer_is_not_waited_for_either() -> None:
    """What is left below the low-water mark when the connection is closed has its time as well."""

    async def inside() -> None:
        protocol = BoundedProtocol.__new__(BoundedProtocol)
        protocol.loop = asyncio.get_running_loop()
        protocol.transport = Transport()  # type: ignore[assignment]
        protocol.flow = FlowControl(protocol.transport)
        protocol.flow.pause_reading = protocol.flow.resume_reading = lambda: None  # type: ignore[method-assign]
        protocol.pause_writing()
        protocol._close()
        assert protocol._unread is not None
        protocol.resume_writing()
        assert protocol._unread is not None
        protocol._is_read()

    asyncio.run(inside())


def test_a_body_that_is_too_long_is_told_so_when_all_of_it_was_sent(one: Server) -> None:
    address = urlsplit(one[0])
    for _ in range(4):
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=20)
        connection.request("POST", "/classify", body=bytes(30 * 2**20))
        with connection.getresponse() as found:
            assert found.status == 413
            assert b"body_too_large" in found.read()
        connection.request("POST", "/classify", body=PNG)  # and the connection serves on
        assert connection.getresponse().status == 200
        connection.close()


def test_requests_on_idle_connections_are_answered_at_the_end(shared_bundle: Bundle) -> None:
    """Whether the connection has had a request before or none; and each for the last time."""
    settings = {**SETTINGS, "OODGATE_KEEP_ALIVE": "30"}
    with serve(*OODGATE_SERVE, OODGATE_BUNDLE=str(shared_bundle.path), **settings) as (url, process):
        used, fresh, idle = (connect(url, sent) for sent in (PROBE, b"", PROBE))
        for connection in (used, idle):
            assert answered_once(connection)
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(ConnectionError):
            while True:
                connect(url).close()
        start = time.monotonic()
        for connection in (used, fresh):
            connection.sendall(PROBE)
            found = answer(connection)
            assert found.startswith(b"HTTP/1.1 200")
            assert b"connection: close" in found
        assert answer(idle) == b""
        assert 0.5 < time.monotonic() - start < 3
        assert process.wait(10) == 0


def answered_once(connection: socket.socket) -> bool:
    """Whether an answer to the probe comes that leaves the connection open."""
    found = b""
    while not found.endswith(b"\r\n\r\n\n"):
        found += connection.recv(65536)
    return found.startswith(b"HTTP/1.1 200") and b"connection: close" not in found


def test_while_the_last_are_answered_nobody_is_let_in(shared_bundle: Bundle) -> None:
    """Who came too late can go elsewhere at once, and another service can have the port."""
    with serve(*OODGATE_SERVE, OODGATE_BUNDLE=str(shared_bundle.path), **SETTINGS) as (url, process):
        whole = request(PNG)
        with connect(url, whole[:-10]) as slow:
            time.sleep(0.3)
            process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            assert process.poll() is None
            with pytest.raises(ConnectionRefusedError):
                connect(url)
            slow.sendall(whole[-10:])
            assert answer(slow).startswith(b"HTTP/1.1 200")
        assert process.wait(10) == 0
