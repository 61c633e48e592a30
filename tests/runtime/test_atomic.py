"""A file is replaced as a whole or stays as it was."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runtime import atomic


def test_replaces(tmp_path: Path) -> None:
    file = tmp_path / "file"
    for data in (b"first", b"second"):
        atomic.replace(file, data)
        assert file.read_bytes() == data
    assert list(tmp_path.iterdir()) == [file]


def test_what_can_not_be_replaced_stays_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="folder"):
        atomic.replace(tmp_path / "folder", b"data")
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "inside"]


def test_a_directory_is_replaced_as_a_whole(tmp_path: Path) -> None:
    for name in ("first", "second"):
        with atomic.writing(tmp_path / "folder") as folder:
            folder.mkdir()
            (folder / name).touch()
        assert [path.name for path in tmp_path.rglob("*")] == ["folder", name]


def test_what_fails_half_way_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "folder" / "inside").mkdir(parents=True)

    def write() -> None:
        with atomic.writing(tmp_path / "folder") as folder:
            folder.mkdir()
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write()
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "inside"]


def test_a_file_does_not_replace_a_directory_nor_a_missing_one_anything(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"), atomic.writing(tmp_path / "folder") as file:
        file.touch()
    with pytest.raises(FileNotFoundError), atomic.writing(tmp_path / "folder"):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["folder"]


def test_a_rename_of_a_directory_that_fails_puts_the_old_one_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder" / "old").mkdir(parents=True)

    def fail(*_: object) -> Path:
        raise OSError("no space")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="no space"), atomic.writing(tmp_path / "folder") as folder:
        folder.mkdir()
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "old"]


def test_what_a_killed_process_left_is_tidied_away(tmp_path: Path) -> None:
    (tmp_path / ".a[b].new-1").mkdir()
    (tmp_path / ".a[b].new-2").touch()
    (tmp_path / ".other.new-1").touch()
    atomic.tidy(tmp_path / "a[b]")
    assert [path.name for path in tmp_path.iterdir()] == [".other.new-1"]


def test_a_lock_lets_one_in_at_a_time(tmp_path: Path) -> None:
    inside, most = 0, 0

    def work(_: int) -> None:
        nonlocal inside, most
        with atomic.locked(tmp_path / "lock"):
            inside += 1
            most = max(most, inside)
            time.sleep(0.005)
            inside -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(16)))
    assert most == 1


def test_what_a_process_of_the_same_number_left_is_in_nobody_s_way(tmp_path: Path) -> None:
    """It was killed while it deleted what it had replaced."""
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "file").write_text("before")
    left = tmp_path / f".bundle.old-{os.getpid()}"
    left.mkdir()
    (left / "file").write_text("long ago")
    with atomic.writing(tmp_path / "bundle") as temporary:
        temporary.mkdir()
        (temporary / "file").write_text("now")
    assert (tmp_path / "bundle" / "file").read_text() == "now"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
