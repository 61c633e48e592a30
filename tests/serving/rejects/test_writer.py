"""The request path: it never waits, whatever the disk does."""

from __future__ import annotations

import io
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from serving.rejects import writer as module
from serving.rejects.files import LocalFiles
from serving.rejects.store import RejectStore
from serving.rejects.writer import Outcome, RejectWriter
from tests.small import calibration_images, encode

PNG = encode(calibration_images(1)[0])


class Slow(RejectStore):
    """Whose disk answers when `go` is set."""

    def __init__(self, root: Path) -> None:
        super().__init__(LocalFiles(root))
        self.go = threading.Event()

    def save(self, *args: Any) -> Any:
        self.go.wait()
        return super().save(*args)


@contextmanager
def writing(store: RejectStore, **options: Any) -> Iterator[tuple[RejectWriter, Counter[Outcome]]]:
    outcomes: Counter[Outcome] = Counter()
    writer = RejectWriter(store, on_outcome=lambda outcome: outcomes.update([outcome]), **options)
    try:
        yield writer, outcomes
    finally:
        writer.close()


def test_an_image_of_many_does_not_keep_the_others(tmp_path: Path) -> None:
    many = calibration_images(8)
    store = Slow(tmp_path)
    with writing(store) as (writer, _):
        for image in many:
            writer.offer(image, {}, "", "")
        assert all(waiting.image.base is None for waiting in writer._waiting if isinstance(waiting.image, np.ndarray))
        store.go.set()


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_what_is_offered_is_stored(tmp_path: Path) -> None:
    store = RejectStore(LocalFiles(tmp_path))
    with writing(store) as (writer, outcomes):
        for i in range(20):
            writer.offer(PNG, {"decision": "reject"}, "cat", f"r{i}")
    assert outcomes == {"stored": 20}
    assert {reject.request_id for reject in store} == {f"r{i}" for i in range(20)}
    assert all(store.image(reject) == PNG for reject in store)


def test_an_array_is_stored_losslessly(tmp_path: Path) -> None:
    store = RejectStore(LocalFiles(tmp_path))
    pixels = calibration_images(1)[0]
    with writing(store) as (writer, _):
        writer.offer(pixels, {}, "cat", "r")
    (reject,) = store
    assert reject.image.endswith(".png")
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(store.image(reject)))), pixels)


def test_a_slow_disk_costs_rejects_and_no_time(tmp_path: Path) -> None:
    store = Slow(tmp_path)
    with writing(store, max_waiting=5 * len(PNG)) as (writer, outcomes):
        start = time.perf_counter()
        for i in range(1000):
            writer.offer(PNG, {}, "cat", str(i))
        assert time.perf_counter() - start < 1
        assert 994 <= outcomes["dropped"] <= 995  # one may be on its way to the disk
        store.go.set()
    assert outcomes["stored"] + outcomes["dropped"] == 1000
    assert len(list(store)) == outcomes["stored"]


def test_the_queue_has_room_again(tmp_path: Path) -> None:
    store = RejectStore(LocalFiles(tmp_path))
    with writing(store, max_waiting=len(PNG)) as (writer, outcomes):
        for i in range(1, 6):
            writer.offer(PNG, {}, "cat", "r")
            wait_until(lambda stored=i: outcomes["stored"] == stored)
    assert outcomes == {"stored": 5}


@pytest.mark.parametrize(("rate", "low", "high"), [(0.0, 0, 0), (0.3, 200, 400), (1.0, 1000, 1000)])
def test_the_sample(rate: float, low: int, high: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "random", module.random.Random(0))
    store = Slow(tmp_path)
    with writing(store, rate=rate, max_waiting=0) as (writer, outcomes):
        for _ in range(1000):
            writer.offer(PNG, {}, "cat", "r")
        assert low <= outcomes["dropped"] <= high  # there is no room, so every reject of the sample is dropped
        store.go.set()


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_no_rate(rate: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the rate must be from 0 to 1"):
        RejectWriter(RejectStore(LocalFiles(tmp_path)), rate)


def test_a_disk_that_fails_is_counted_and_survived(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "store"
    root.write_text("a file where the directory should be")
    with writing(RejectStore(LocalFiles(root))) as (writer, outcomes):
        writer.offer(PNG, {}, "cat", "r")
        wait_until(lambda: outcomes["failed"] == 1)
        root.unlink()
        writer.offer(PNG, {}, "cat", "r")
    assert outcomes == {"failed": 1, "stored": 1}
    assert "can't be stored" in caplog.text


def test_many_threads(tmp_path: Path) -> None:
    store = RejectStore(LocalFiles(tmp_path))
    with writing(store) as (writer, outcomes), ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: writer.offer(PNG, {}, "cat", str(i)), range(200)))
    assert outcomes == {"stored": 200}
    assert len(list(store)) == 200


def test_closing_waits_no_longer_than_it_may(tmp_path: Path) -> None:
    store = Slow(tmp_path)
    outcomes: list[Outcome] = []
    writer = RejectWriter(store, on_outcome=outcomes.append)
    for _ in range(3):
        writer.offer(PNG, {}, "cat", "r")
    time.sleep(0.05)  # the first is on its way to the disk
    start = time.perf_counter()
    writer.close(timeout=0.1)
    assert time.perf_counter() - start < 1
    writer.offer(PNG, {}, "cat", "r")
    assert outcomes.count("dropped") == 3
    store.go.set()


def test_old_rejects_go_without_new_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cleaned = threading.Event()
    monkeypatch.setattr(module, "_CLEAN_EVERY", 0.01)
    monkeypatch.setattr(RejectStore, "clean", lambda _: cleaned.set())
    with writing(RejectStore(LocalFiles(tmp_path))):
        assert cleaned.wait(5)
