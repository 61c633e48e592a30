"""Threads, processes, crashes and full disks around one stream."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from runtime.bundle import Bundle
from serving.drift.monitor import Monitor, Report
from serving.drift.reference import Reference
from serving.drift.watch import DriftWatch
from tests.small import ALPHA

ROOT = Path(__file__).resolve().parents[3]
REFERENCE = Reference(edges=np.array([0.05, 0.5, 1.0]), slots=np.array([10.0, 90.0, 100.0]))

WORKER = """
import sys
from pathlib import Path
from tests.serving.drift.test_watch import watch
one = watch(Path(sys.argv[1]))
for i in range(int(sys.argv[2])):
    one.observe(((i * 7) % 200 + 1) / 200, i % 10 == 0)
    if i % 50 == 0:
        one.flush()
one.close()
"""


def watch(path: Path | None = None) -> DriftWatch:
    return DriftWatch(Monitor(REFERENCE, 0.05), path)


def test_one_process() -> None:
    one = watch()
    for p_value in (0.01, 0.05, 0.051, 0.5, 1.0):
        one.observe(p_value, p_value <= 0.05)
    assert one.report().images == 0
    one.flush()
    one.flush()
    report = one.report()
    assert (report.images, report.rejected) == (5, 2)
    assert report.uniformity.statistic == pytest.approx(0.4 - 0.05)


def test_workers_see_the_sum(tmp_path: Path) -> None:
    path = tmp_path / "state" / "drift.json"
    workers = [watch(path) for _ in range(3)]
    for number, worker in enumerate(workers):
        for _ in range(10 * (number + 1)):
            worker.observe(0.7, False)
        worker.observe(0.01, True)
    for worker in (*workers, *workers):
        worker.flush()
    for worker in workers:
        report = worker.report()
        assert (report.images, report.rejected, report.total_images) == (63, 3, 63)


def test_processes_at_the_same_time(tmp_path: Path) -> None:
    path = tmp_path / "drift.json"
    command = [sys.executable, "-c", WORKER, str(path), "2000"]
    processes = [subprocess.Popen(command, cwd=ROOT) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    last = watch(path)
    last.flush()
    report = last.report()
    assert (report.total_images, report.total_rejected, report.images) == (6000, 600, 6000)


def test_threads_at_the_same_time() -> None:
    one = watch()
    stop = threading.Event()

    def flush() -> None:
        while not stop.is_set():
            one.flush()

    flusher = threading.Thread(target=flush)
    flusher.start()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: one.observe(0.3, i % 4 == 0), range(4000)))
    stop.set()
    flusher.join()
    one.flush()
    assert (one.report().total_images, one.report().total_rejected) == (4000, 1000)


def test_a_new_process_carries_on(tmp_path: Path) -> None:
    for expected in (1, 2, 3):
        one = watch(tmp_path / "drift.json")
        one.observe(0.5, False)
        one.close()
        assert one.report().images == expected


@pytest.mark.parametrize("left", [b"", b"{", b"\x00" * 100, b"[]", b'{"images": 3}'])
def test_a_damaged_file_starts_afresh(left: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "drift.json"
    path.write_bytes(left)
    one = watch(path)
    one.observe(0.5, False)
    one.flush()
    assert one.report().images == 1
    assert "starts afresh" in caplog.text
    assert json.loads(path.read_bytes())["images"] == 1


@pytest.mark.parametrize("left", [".drift.json.new", ".drift.json.new-1"])
def test_what_a_killed_writer_left_is_ignored(left: str, tmp_path: Path) -> None:
    (tmp_path / left).write_bytes(b"{torn")
    one = watch(tmp_path / "drift.json")
    one.observe(0.5, False)
    one.flush()
    assert one.report().images == 1


def test_a_disk_that_fails_loses_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = tmp_path / "state"
    directory.write_text("a file where the directory should be")
    one = watch(directory / "drift.json")
    one.observe(0.5, True)
    one.flush()
    assert "can't be shared" in caplog.text
    one.observe(0.5, False)
    directory.unlink()
    one.flush()
    assert (one.report().images, one.report().rejected) == (2, 1)


def test_the_thread_flushes_and_reports() -> None:
    reports: list[Report] = []
    seen = threading.Event()

    def keep(report: Report) -> None:
        reports.append(report)
        seen.set()

    one = DriftWatch(Monitor(REFERENCE, 0.05), on_report=keep)
    one.observe(0.5, False)
    one.start(0.01)
    assert seen.wait(10)
    one.close()
    assert reports[-1].images == 1


def test_of_a_gate(shared_bundle: Bundle, tmp_path: Path) -> None:
    manifest = shared_bundle.manifest
    assert manifest.gate
    one = DriftWatch.of_gate(manifest.gate, manifest.files["model.onnx"].sha256, directory=tmp_path)
    one.observe(1.0, False)
    one.observe(1 / 100, True)
    one.close()
    assert one.report().rejection_rate == 0.5
    assert one.report().alpha == ALPHA
    (file,) = tmp_path.glob("drift-*.json")
    assert file.name == f"drift-{manifest.files['model.onnx'].sha256[:16]}-energy.json"
