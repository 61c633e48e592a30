"""Large bodies against a real `bentoml serve` that may write no file: answered or refused, and the worker lives on."""

from __future__ import annotations

import resource
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from runtime.bundle import Bundle
from tests.serving.abuse.test_connections import PNG, connect, workers
from tests.serving.conftest import serve

MEGABYTE = 2**20
LARGE = [("images", bytes(15 * MEGABYTE)) for _ in range(4)]  # within the limits; no images, which is no matter


def test_nothing_is_spooled_and_the_memory_is_bounded(shared_bundle: Bundle, tmp_path: Path) -> None:
    body = httpx.Request("POST", "http://x", files=LARGE)
    content, headers = body.read(), {"content-type": body.headers["content-type"]}
    with serve(OODGATE_BUNDLE=str(shared_bundle.path), OODGATE_WORKERS="1", TMPDIR=str(tmp_path)) as (url, process):
        (worker,) = workers(process)
        worker.rlimit(resource.RLIMIT_FSIZE, (2 * MEGABYTE, 2 * MEGABYTE))
        before = worker.memory_info().rss

        def send(_: int) -> httpx.Response:
            return httpx.post(f"{url}/classify_batch", content=content, headers=headers, timeout=60)

        with ThreadPoolExecutor(8) as pool:
            answers = [*pool.map(send, range(8))]
        statuses = Counter(answer.status_code for answer in answers)
        assert statuses.keys() <= {200, 503}
        assert statuses[200] > 0
        for answer in answers:
            if answer.status_code == 503:
                assert answer.json()["error"]["code"] in ("memory_full", "overloaded")
                assert answer.headers["retry-after"] == "1"
        assert worker.memory_info().rss - before < 700 * MEGABYTE
        assert [child.pid for child in workers(process)] == [worker.pid]
        assert httpx.post(f"{url}/classify", content=PNG).status_code == 200
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("announced", ["content-length: 67000000", "transfer-encoding: chunked"])
def test_who_announces_much_and_sends_little_pins_nothing(shared_bundle: Bundle, announced: str) -> None:
    settings = {"OODGATE_BUNDLE": str(shared_bundle.path), "OODGATE_WORKERS": "1", "OODGATE_BODY_TIMEOUT": "3"}
    head = f"POST /classify_batch HTTP/1.1\r\nhost: x\r\ncontent-type: multipart/form-data; boundary=b\r\n{announced}\r\n\r\n"
    with serve(**settings) as (url, _):
        idle = [connect(url, head.encode()) for _ in range(32)]
        files = [("images", PNG)]
        start = time.monotonic()
        assert httpx.post(f"{url}/classify_batch", files=files).status_code == 200
        assert httpx.post(f"{url}/classify", content=PNG).status_code == 200
        assert time.monotonic() - start < 2
        for connection in idle:
            assert connection.recv(12) == b"HTTP/1.1 408"
            connection.close()
