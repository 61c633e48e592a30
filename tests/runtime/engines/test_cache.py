"""The cache: a folder is complete or not there, whatever happens while it is filled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.engines import cache
from runtime.exceptions import EngineError

ROOT = Path(__file__).resolve().parents[3]


def test_a_key_depends_on_every_part() -> None:
    base = {"model": "a", "gpu": "b"}
    assert cache.key(**base) == cache.key(gpu="b", model="a")
    assert len({cache.key(**base), cache.key(**base, driver="c"), cache.key(model="a", gpu="c")}) == 3


def test_is_filled_once(tmp_path: Path) -> None:
    calls = []

    def fill(folder: Path) -> None:
        calls.append(folder)
        (folder / "engine").write_bytes(b"engine")

    for _ in range(2):
        assert (cache.filled(tmp_path / "root", "key", fill) / "engine").read_bytes() == b"engine"
    assert len(calls) == 1
    assert [file.name for file in (tmp_path / "root").iterdir()] == ["key"]


def test_a_fill_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "half").write_bytes(b"half")
        raise EngineError("no memory")

    with pytest.raises(EngineError, match="no memory"):
        cache.filled(tmp_path, "key", fill)
    assert list(tmp_path.iterdir()) == []


def test_another_process_may_be_faster(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "engine").write_bytes(b"slow")
        (tmp_path / "key").mkdir()
        (tmp_path / "key" / "engine").write_bytes(b"fast")

    assert (cache.filled(tmp_path, "key", fill) / "engine").read_bytes() == b"fast"


def test_a_folder_that_can_not_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(EngineError, match=r"the engine cache .* can't be written"):
        cache.filled(tmp_path / "file", "key", lambda _: None)


def test_a_killed_process_leaves_no_half_of_it(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys, time\nfrom runtime.engines import cache\n"
        "def fill(folder):\n    (folder / 'half').write_bytes(b'half')\n"
        "    print('filling', flush=True)\n    time.sleep(60)\n"
        "cache.filled(pathlib.Path(sys.argv[1]), 'key', fill)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"filling\n"
        os.kill(process.pid, signal.SIGKILL)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".key.new-")
    folder = cache.filled(tmp_path, "key", lambda new: cache.write(new / "engine", b"whole"))
    assert [file.name for file in folder.iterdir()] == ["engine"]
    assert list(tmp_path.iterdir()) == [folder]
