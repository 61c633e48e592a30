"""Patterns, and single files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.small import encode
from tests.train.sets import SPEC, check_equal, colours, noise, write_folder, write_tar
from train.data import load
from train.data.source import check
from train.exceptions import DataError

DATA = colours(9)


def test_images(tmp_path: Path) -> None:
    write_folder(tmp_path / "a set", DATA)
    found = load(str(tmp_path / "a set" / "blue" / "*.png"), SPEC)
    assert found.names == tuple(name for name in DATA.names if name.startswith("blue/"))
    assert found.classes == ("blue",)
    for pattern in ("*/*", "**/*.png", "*", "[bgr]*"):
        check_equal(load(str(tmp_path / "a set" / pattern), SPEC), DATA)


def test_a_pattern_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path, DATA)
    monkeypatch.chdir(tmp_path / "blue")
    assert load("*.png", SPEC).classes == ("blue",)
    assert len(load("*@1/3", SPEC)) == 1


def test_other_files_and_hidden_ones(tmp_path: Path) -> None:
    write_folder(tmp_path, DATA)
    (tmp_path / "blue" / ".x.png").write_bytes(b"x")
    (tmp_path / "notes.txt").write_bytes(b"x")
    found = load(str(tmp_path / "*"), SPEC)
    assert [(one.reason, len(one.names)) for one in found.report.passed] == [("not images", 1), ("hidden", 1)]


def test_tars(tmp_path: Path) -> None:
    for i in range(2):
        write_tar(tmp_path / f"{i}.tar", DATA)
    found = load(str(tmp_path / "?.tar"), SPEC)
    assert (len(found), found.classes) == (18, DATA.classes)


def test_splits_of_a_pattern(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_folder(tmp_path / split, DATA)
    assert load(str(tmp_path / "*" / "blue"), SPEC).classes == ("blue",)
    assert load(str(tmp_path / "*" / "*"), SPEC).classes == DATA.classes
    for split in ("train", "val"):
        (tmp_path / split / "1.png").write_bytes(encode(noise(1)[0]))
    assert load(str(tmp_path / "*" / "*.png"), SPEC).classes == (tmp_path.name,)


@pytest.mark.parametrize("pattern", ["*.jpg", "nowhere/*", "x?"])
def test_a_pattern_that_finds_nothing(tmp_path: Path, pattern: str) -> None:
    for read in (lambda source: load(source, SPEC), check):
        with pytest.raises(DataError, match=r"no such directory, tar or \.npz file, nor any .* pattern that finds one"):
            read(str(tmp_path / pattern))


def test_a_pattern_without_images(tmp_path: Path) -> None:
    (tmp_path / "a.doc").write_bytes(b"x")
    with pytest.raises(DataError, match=r"no images; .* found 1 other files"):
        load(str(tmp_path / "*.doc"), SPEC)


def test_a_folder_whose_name_is_a_pattern(tmp_path: Path) -> None:
    check_equal(load(str(write_folder(tmp_path / "set [1]", DATA)), SPEC), DATA)


@pytest.mark.parametrize("name", ["photo.jpg", "photo"])
def test_one_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(encode(noise(1)[0]))
    found = load(str(tmp_path / name), SPEC)
    np.testing.assert_array_equal(found.images, noise(1))
    assert (found.names, found.labelled) == ((name,), False)


def test_a_file_of_no_kind(tmp_path: Path) -> None:
    (tmp_path / "set.jsonl").write_bytes(b'{"file_name": "1.png"}\n')
    with pytest.raises(DataError, match=r"set\.jsonl: not a kind of file that is read: a tar or zip, a table"):
        load(str(tmp_path / "set.jsonl"), SPEC)
