"""The cache: a folder is complete or not there, whatever happens while it is filled."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from runtime.engines import cache
from runtime.exceptions import EngineError

ROOT = Path(__file__).resolve().parents[3]
PARTS = {"model": "a", "gpu": "b"}


def folders(root: Path) -> list[str]:
    """What is in the cache, but for locks."""
    return sorted(path.name for path in root.iterdir() if path.suffix != ".lock")


def test_a_key_depends_on_every_part() -> None:
    assert cache.key(PARTS) == cache.key({"gpu": "b", "model": "a"})
    assert len({cache.key(PARTS), cache.key({**PARTS, "driver": "c"}), cache.key({"model": "a", "gpu": "c"})}) == 3


def test_is_filled_once(tmp_path: Path) -> None:
    calls = []

    def fill(folder: Path) -> None:
        calls.append(folder)
        (folder / "engine").write_bytes(b"engine")

    for _ in range(2):
        folder = cache.filled(tmp_path / "root", PARTS, fill)
        assert (folder / "engine").read_bytes() == b"engine"
        assert json.loads((folder / "key.json").read_text()) == PARTS
    assert len(calls) == 1
    assert folders(tmp_path / "root") == [cache.key(PARTS)]


def test_a_fill_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "half").write_bytes(b"half")
        raise EngineError("no memory")

    with pytest.raises(EngineError, match="no memory"):
        cache.filled(tmp_path, PARTS, fill)
    assert folders(tmp_path) == []


def test_one_fills_and_the_others_wait(tmp_path: Path) -> None:
    filling, go_on = threading.Event(), threading.Event()
    calls: list[Path] = []
    found: list[bytes] = []

    def fill(folder: Path) -> None:
        calls.append(folder)
        filling.set()
        assert go_on.wait(10)
        (folder / "engine").write_bytes(b"engine")

    def start() -> None:
        found.append((cache.filled(tmp_path, PARTS, fill) / "engine").read_bytes())

    threads = [threading.Thread(target=start) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert filling.wait(10)
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert found == [b"engine"] * 3
    assert len(calls) == 1


def test_a_folder_that_can_not_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(EngineError, match=r"the engine cache .* can't be written .*; choose another by --cache"):
        cache.filled(tmp_path / "file", PARTS, lambda _: None)


def test_a_killed_process_leaves_no_half_of_it(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys, time\nfrom runtime.engines import cache\n"
        "def fill(folder):\n    (folder / 'half').write_bytes(b'half')\n"
        "    print('filling', flush=True)\n    time.sleep(60)\n"
        f"cache.filled(pathlib.Path(sys.argv[1]), {PARTS}, fill)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"filling\n"
        os.kill(process.pid, signal.SIGKILL)
    assert folders(tmp_path) == [f".{cache.key(PARTS)}.new-{process.pid}"]
    folder = cache.filled(tmp_path, PARTS, lambda new: cache.write(new / "engine", b"whole"))
    assert sorted(file.name for file in folder.iterdir()) == ["engine", "key.json"]
    assert folders(tmp_path) == [folder.name]
