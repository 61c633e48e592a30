"""A served process whose decoders have much to say."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np

from runtime.bundle import Bundle
from tests.serving.conftest import serve
from tests.writers import tiff


def fax(rows: int) -> bytes:
    """A TIFF of CCITT group 3 whose codes are all wrong: libtiff reports each row."""
    codes = np.random.default_rng(0).integers(0, 256, 3 * rows, dtype=np.uint8).tobytes()
    return tiff([codes], {256: 8, 257: rows, 258: 1, 259: 3, 262: 0, 277: 1, 278: rows})


def test_what_libtiff_says_of_a_fax_does_not_flood_the_log(shared_bundle: Bundle, tmp_path: Path) -> None:
    with serve(OODGATE_BUNDLE=str(shared_bundle.path), log=tmp_path / "log") as (url, _):
        with httpx.Client(base_url=url, timeout=30) as client, ThreadPoolExecutor(4) as threads:
            posts = [threads.submit(client.post, "/classify", content=fax(8000)) for _ in range(12)]
            statuses = [post.result().status_code for post in posts]
        time.sleep(0.5)
    log = (tmp_path / "log").read_bytes()
    assert set(statuses) <= {200, 415, 422}
    assert b"native libraries wrote" in log
    assert len(log) < 20_000
