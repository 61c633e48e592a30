"""One contract, two kinds of places."""

from __future__ import annotations

import errno
import stat
import tempfile
from pathlib import Path
from uuid import uuid4

import pytest

from serving.exceptions import StoreUnusable
from serving.rejects.files import FileInfo, Files, LocalFiles, check_files, open_files


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


@pytest.mark.parametrize("under", ["", "a/b"])
def test_a_directory_is_made_and_left_empty(tmp_path: Path, under: str) -> None:
    place = tmp_path / "store" / under
    check_files(str(place))
    check_files(str(place))
    assert list(place.iterdir()) == []
    assert stat.S_IMODE(place.stat().st_mode) == 0o700


@pytest.mark.parametrize(("place", "reason"), [("file", "File exists"), ("file/store", "Not a directory")])
def test_what_can_be_no_directory(tmp_path: Path, place: str, reason: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnusable) as caught:
        check_files(str(tmp_path / place))
    assert str(caught.value) == (
        f"rejected images can't be kept: {tmp_path / place} is no directory that can be written ({reason}); "
        "name another, or none"
    )


def test_a_directory_without_the_right_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(**_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    with pytest.raises(StoreUnusable, match=r"is no directory that can be written \(Permission denied\)"):
        check_files(str(tmp_path))


def test_a_scheme_that_nobody_knows() -> None:
    with pytest.raises(StoreUnusable, match=r"nowhere://x: fsspec can't open it"):
        open_files("nowhere://x")
