"""One contract, two kinds of places."""

from __future__ import annotations

import stat
from pathlib import Path
from uuid import uuid4

import pytest

from serving.exceptions import StoreUnusable
from serving.rejects.files import FileInfo, Files, LocalFiles, open_files


@pytest.fixture(params=["directory", "memory://"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    place = tmp_path / "store" if request.param == "directory" else f"memory://{uuid4().hex}"
    return open_files(str(place))


def test_nothing_yet(files: Files) -> None:
    assert files.folders() == []
    assert files.files("a") == []
    files.delete("a", "1")
    with pytest.raises(FileNotFoundError):
        files.read("a", "1")


def test_write_read_list_delete(files: Files) -> None:
    files.write("b", "1.x", b"one")
    files.write("a", "2.x", b"")
    files.write("b", "3.x", bytes(1000))
    assert files.folders() == ["a", "b"]
    assert sorted(files.files("b"), key=lambda file: file.name) == [FileInfo("1.x", 3), FileInfo("3.x", 1000)]
    assert files.read("b", "1.x") == b"one"
    files.write("b", "1.x", b"other")
    assert files.read("b", "1.x") == b"other"
    files.delete("b", "1.x")
    assert [file.name for file in files.files("b")] == ["3.x"]


def test_an_empty_folder_goes(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path)
    files.write("a", "1", b"x")
    files.delete("a", "1")
    assert files.folders() == []


def test_only_the_owner_reads_a_directory(tmp_path: Path) -> None:
    LocalFiles(tmp_path).write("a", "1", b"x")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a" / "1").mkdir(parents=True)  # in the way of the rename
    (tmp_path / "a" / "1" / "x").touch()
    with pytest.raises(OSError, match="1"):
        LocalFiles(tmp_path).write("a", "1", b"x")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["1"]


def test_a_scheme_that_nobody_knows() -> None:
    with pytest.raises(StoreUnusable, match=r"nowhere://x: fsspec can't open it"):
        open_files("nowhere://x")
