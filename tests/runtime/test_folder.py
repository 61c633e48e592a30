"""Walks of folders."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from runtime.folder import Folder, images, is_hidden, walk


@pytest.mark.parametrize(
    ("name", "hidden"),
    [
        ("cat/1.png", False),
        ("a.b/c.d", False),
        (".x", True),
        ("cat/.x/1.png", True),
        ("cat/._1.png", True),
        ("__MACOSX/cat/1.png", True),
        ("cat/THUMBS.DB", True),
        ("cat/thumbs.dbx", False),
    ],
)
def test_is_hidden(name: str, hidden: bool) -> None:
    assert is_hidden(name) == hidden


def test_every_folder_once_and_links_as_folders(tmp_path: Path) -> None:
    for name in ("a/1", "b/2", "b/.3"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b" / "a").symlink_to(tmp_path / "a")
    (tmp_path / "b" / "up").symlink_to(tmp_path)
    (tmp_path / "b" / "self").symlink_to("self")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "b" / "to a pipe").symlink_to(tmp_path / "pipe")
    found = [dataclasses.replace(folder, files=tuple(sorted(folder.files))) for folder in walk(tmp_path)]
    assert sorted(found, key=lambda folder: folder.name) == [
        Folder("", (), (), ()),
        Folder("a", ("1",), (), ()),
        Folder("b", ("2", "self"), (".3",), ("up",)),
        Folder("b/a", ("1",), (), ()),
    ]


def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(PermissionError):
        list(walk(tmp_path))


def test_images_are_in_the_order_of_paths_and_named_from_where_the_walk_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "oodgate")
    names = ["b.png", "a/2.PNG", "a-b/1.jpg", "a/c/3.tif", "a/notes.txt", ".hidden/4.png", "no_ending"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    expected = ["a/2.PNG", "a/c/3.tif", "a-b/1.jpg", "b.png"]  # as texts, a-b/1.jpg would be the first
    assert images(tmp_path) == [f"{tmp_path}/{name}" for name in expected]
    (said,) = caplog.messages
    assert said.startswith(f"{tmp_path}: passed over, by their endings: 2 files, such as {tmp_path}/")
    assert images(tmp_path) == list(map(str, sorted(tmp_path / name for name in expected)))
    monkeypatch.chdir(tmp_path)
    assert images(Path()) == expected
    assert images(Path("a")) == expected[:2]
