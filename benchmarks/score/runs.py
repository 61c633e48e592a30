"""Runs that are measured: each a process of its own, of which and of whose children time and memory are watched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow.parquet as pq

from benchmarks.paths import BUNDLE, ROOT

PART = 1_024
_SAMPLE = 0.25  # seconds

_LOOP = """
import sys, tarfile, time
from runtime import Gate
gate = Gate.load(sys.argv[1], engine="onnxruntime-cpu", threads=1)
start, count, files = time.perf_counter(), 0, []
for name in sys.argv[2:]:
    with tarfile.open(name) as tar:
        for member in tar:
            files.append(tar.extractfile(member).read())
            if len(files) == 64:
                count += len(gate.decide_each(files))
                files = []
count += len(gate.decide_each(files)) if files else 0
print(f"{count} images in {time.perf_counter() - start:.1f} s,")
"""


@dataclass(frozen=True)
class Run:
    """One process: its images, and what it took.

    Attributes:
        images: how many.
        seconds: from the first image to be read to the last row, as it says.
        wall: in all.
        processor: seconds of all cores, of it and its children.
        peak: memory, MB.
    """

    images: int
    seconds: float
    wall: float
    processor: float
    peak: float

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.images / self.seconds


def loop(shards: list[Path]) -> Run:
    """A loop over the library, with one thread."""
    return watched([sys.executable, "-c", _LOOP, str(BUNDLE), *map(str, shards)])


def score(
    shards: list[Path], out: Path, engine: str, workers: int, disturb: Callable[[psutil.Process], None] | None = None
) -> Run:
    """One job."""
    who = ["--engine", engine, "--workers", str(workers), "--backend", "onnxruntime-cpu"]
    what = [*map(str, shards), "--bundle", str(BUNDLE), "--out", str(out), "--rows", str(PART)]
    return watched([sys.executable, "-m", "serving.batch", *what, *who], disturb)


def watched(command: list[str], disturb: Callable[[psutil.Process], None] | None = None) -> Run:
    """Run a command and watch its processes; memory that they share counts once."""
    start, peak, worked = time.perf_counter(), 0.0, dict[int, float]()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    root = psutil.Process(process.pid)
    if disturb:
        threading.Thread(target=disturb, args=(root,), daemon=True).start()
    while process.poll() is None:
        now = {one.pid: _state(one) for one in _family(root)}
        peak = max(peak, sum(memory for memory, _ in now.values()))
        worked |= {pid: seconds for pid, (_, seconds) in now.items() if seconds}
        time.sleep(_SAMPLE)
    said = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: {said}")
    words = next(line for line in said.splitlines() if " images in " in line).replace(",", "").split()
    return Run(int(words[0]), float(words[3]), time.perf_counter() - start, sum(worked.values()), peak)


def steady(out: Path) -> float:
    """Images a second between the first part and the last that were written."""
    written = sorted((file.stat().st_mtime, pq.read_metadata(file).num_rows) for file in out.glob("*.parquet"))
    return sum(count for _, count in written[1:]) / (written[-1][0] - written[0][0])


def _family(root: psutil.Process) -> list[psutil.Process]:
    try:
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _state(process: psutil.Process) -> tuple[float, float]:
    """Memory, MB, and seconds of cores; 0 of one that has ended."""
    try:
        times = process.cpu_times()
        return float(process.memory_full_info().pss) / 2**20, times.user + times.system
    except psutil.Error:
        return 0.0, 0.0


@dataclass
class Killer:
    """Kills a task that decodes as soon as there is one, and an actor once a quarter of the parts is there."""

    out: Path
    parts: int
    killed: int = 0

    def __call__(self, root: psutil.Process) -> None:
        self._kill(root, "ray::MapBatches(_decoded)")
        while len(list(self.out.glob("*.parquet"))) < self.parts // 4:
            time.sleep(0.05)
        self._kill(root, "ray::MapWorker")

    def _kill(self, root: psutil.Process, title: str) -> None:
        while not (found := [one for one in _family(root) if _title(one).startswith(title)]):
            time.sleep(0.01)
        os.kill(found[0].pid, signal.SIGKILL)
        self.killed += 1


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
