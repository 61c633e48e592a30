"""Slow clients, crowds, killed workers and the end, against real services with two workers."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import numpy as np
import psutil
import pytest

from benchmarks import servers
from runtime import Gate
from runtime.bundle import Bundle
from tests.serving.conftest import BENTOML_SERVE, OODGATE_SERVE, serve
from tests.serving.decisions import assert_same
from tests.small import calibration_images, encode

Server = tuple[str, "subprocess.Popen[bytes]"]

PNG = encode(calibration_images(1)[0])


@pytest.fixture(scope="module", params=[BENTOML_SERVE, OODGATE_SERVE], ids=["bentoml", "oodgate"])
def two(shared_bundle: Bundle, request: pytest.FixtureRequest) -> Iterator[Server]:
    with serve(
        *request.param,
        OODGATE_BUNDLE=str(shared_bundle.path),
        OODGATE_WORKERS="2",
        OODGATE_HEADER_TIMEOUT="2",
        OODGATE_BODY_TIMEOUT="2",
        OODGATE_MAX_QUEUE="400",
        OODGATE_MAX_CONCURRENCY="400",
    ) as running:
        yield running


def connect(url: str, data: bytes = b"") -> socket.socket:
    address = urlsplit(url)
    connection = socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=20)
    try:
        connection.sendall(data)
    except OSError:  # the service has ended meanwhile
        connection.close()
        raise
    return connection


def answer(connection: socket.socket) -> bytes:
    """All that comes until the connection is closed."""
    with connection:
        return b"".join(iter(lambda: connection.recv(65536), b""))


def workers(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return servers.workers(process.pid)


def total(url: str, start: str) -> float:
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(start))


def request(body: bytes) -> bytes:
    return b"POST /classify HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (
        len(body),
        body,
    )


def test_good_requests_among_bad_ones_get_their_own_answers(two: Server, shared_bundle: Bundle) -> None:
    gate = Gate.load(shared_bundle.path, threads=1)
    good = [encode(image) for image in calibration_images(300, seed=21)]
    bodies = [*good, *[b"bad"] * 20]
    order = np.random.default_rng(0).permutation(len(bodies))
    before = total(two[0], "oodgate_decisions_total")
    limits = httpx.Limits(max_connections=64)
    with httpx.Client(timeout=30, limits=limits) as client, ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda i: (i, client.post(f"{two[0]}/classify", content=bodies[i])), order))
    for i, found in answers:
        if i < 300:
            assert_same(found.json(), gate.decide([good[i]])[0].to_dict())
        else:
            assert found.status_code == 415
    assert total(two[0], "oodgate_decisions_total") == before + 300  # in sum over both workers


def test_slow_clients_are_ended_and_starve_nobody(two: Server) -> None:
    head = b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
    slow = [connect(two[0], data) for data in (b"", b"POST /cl", head, head + b"\r\nx") for _ in range(50)]
    start = time.monotonic()
    with httpx.Client(timeout=10) as client:
        while time.monotonic() - start < 1.5:
            assert client.post(f"{two[0]}/classify", content=PNG).status_code == 200
    for connection in slow:
        assert answer(connection).startswith(b"HTTP/1.1 408")
    assert time.monotonic() - start < 10


def test_a_trickle_does_not_buy_time(two: Server) -> None:
    start = time.monotonic()
    with connect(two[0], b"POST /classify HTTP/1.1\r\n") as connection, contextlib.suppress(OSError):
        while time.monotonic() - start < 15:
            connection.sendall(b"x-header: x\r\n")
            time.sleep(0.1)
    assert 1 < time.monotonic() - start < 10


def test_a_killed_worker_comes_back_and_keeps_its_counts(two: Server) -> None:
    url, process = two
    before = total(url, "oodgate_decisions_total")
    (first, second) = workers(process)
    first.kill()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and len({child.pid for child in workers(process)} - {first.pid, second.pid}) < 1:
        time.sleep(0.1)
    assert len(workers(process)) == 2
    for _ in range(10):
        assert httpx.post(f"{url}/classify", content=PNG, timeout=30).status_code == 200
    assert httpx.get(f"{url}/readyz", timeout=30).status_code == 200
    assert total(url, "oodgate_decisions_total") == before + 10


def test_every_request_accepted_before_the_end_is_answered(shared_bundle: Bundle) -> None:
    """Large images keep the decoders busy while SIGTERM comes."""
    large = encode(np.random.default_rng(0).integers(0, 256, (700, 700, 3), dtype=np.uint8))
    with serve(OODGATE_BUNDLE=str(shared_bundle.path), OODGATE_WORKERS="1") as (url, process):
        connections = [connect(url, request(large)) for _ in range(24)]
        idle = connect(url)
        while total(url, 'oodgate_stage_seconds_count{stage="read"}') < len(connections):
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGTERM)
        answers = [answer(connection) for connection in connections]
        assert answer(idle) == b""
        assert [found[:12] for found in answers] == [b"HTTP/1.1 200"] * len(connections)
        assert process.wait(30) == 0


def test_connections_beyond_the_limit_are_told_so(shared_bundle: Bundle) -> None:
    """With tracing on, for once."""
    settings = {"OODGATE_WORKERS": "1", "OODGATE_MAX_CONNECTIONS": "4", "OODGATE_TRACING": "1"}
    with serve(OODGATE_BUNDLE=str(shared_bundle.path), **settings) as (url, _):
        time.sleep(0.2)  # the probe's connection is closed by now
        with contextlib.ExitStack() as stack:
            idle = [stack.enter_context(connect(url)) for _ in range(4)]
            refused = answer(connect(url, request(PNG)))
            assert refused.startswith(b"HTTP/1.1 503")
            assert b"too_many_connections" in refused
            assert b"retry-after: 1" in refused
            for connection in idle:
                connection.sendall(request(PNG))
                assert connection.recv(12) == b"HTTP/1.1 200"
        time.sleep(0.2)
        assert answer(connect(url, request(PNG))).startswith(b"HTTP/1.1 200")
