"""Tars: links and odd names in them, and damaged ones, read as they were or refused by name."""

from __future__ import annotations

import tarfile
import unicodedata
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from tests.small import encode
from tests.train.sets import SPEC, add_member, check_equal, colours, noise, write_tar
from train.data import load
from train.exceptions import DataError

PNG = encode(noise(1)[0])


@pytest.mark.parametrize("content", [b"", b"this is text", bytes(range(256)) * 8], ids=["empty", "text", "binary"])
def test_file_that_is_no_tar(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "set.tar").write_bytes(content)
    with pytest.raises(DataError, match=r"set\.tar: not a readable tar"):
        load(str(tmp_path / "set.tar"), SPEC)


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_truncated_compressed_tar(tmp_path: Path, mode: str) -> None:
    file = write_tar(tmp_path / "set.tar", colours(30), mode)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(DataError, match="not a readable tar"):
        load(str(file), SPEC)


@pytest.mark.parametrize("size", [1024, 1024 + 100, 1024 + 600], ids=["between files", "in a header", "in an image"])
def test_truncated_tar(tmp_path: Path, size: int) -> None:
    """Each file takes 1024 bytes: its header and its image, padded to 512 each."""
    file = write_tar(tmp_path / "set.tar", colours(6))
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(DataError, match=r"set\.tar: .*(truncated|not a readable tar)"):
        load(str(file), SPEC)


def test_tar_gz_damaged_anywhere(tmp_path: Path) -> None:
    """Eight bytes overwritten at each of many places: read as it was, or refused by name."""
    file = write_tar(tmp_path / "set.tar.gz", colours(6), "w:gz")
    content = file.read_bytes()
    for start in range(0, len(content) - 8, 11):
        file.write_bytes(content[:start] + b"\xa5" * 8 + content[start + 8 :])
        with suppress(DataError):
            load(str(file), SPEC)


def test_what_systems_leave_behind_is_no_image_and_no_class(tmp_path: Path) -> None:
    data = colours(6)
    file = write_tar(tmp_path / "set.tar", data)
    with tarfile.open(file, "a") as tar:
        for name in (
            "./._blue",
            "__MACOSX/cat/1.png",
            "blue/._0000.png",
            ".cache/1.png",
            "green/.ipynb_checkpoints/1.png",
        ):
            add_member(tar, name, PNG)
    check_equal(load(str(file), SPEC), data)


def test_links_are_followed(tmp_path: Path) -> None:
    """Hard links, which tar makes of files that are linked on disk, and symbolic ones to files and folders."""
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        links = [
            ("b", "a", tarfile.SYMTYPE),
            ("c/2.png", "../a/1.png", tarfile.SYMTYPE),
            ("d/3.png", "./a/1.png", tarfile.LNKTYPE),
            ("e", "b", tarfile.SYMTYPE),
            ("a/loop", "../a", tarfile.SYMTYPE),
            ("f.png", "/nowhere.png", tarfile.SYMTYPE),
        ]
        for name, target, kind in links[:2]:
            add_link(tar, name, target, kind)
        add_member(tar, "a/1.png", PNG)
        for name, target, kind in links[2:]:
            add_link(tar, name, target, kind)
    found = load(str(tmp_path / "set.tar"), SPEC)
    assert found.names == ("a/1.png", "b/1.png", "c/2.png", "d/3.png", "e/1.png")
    assert found.classes == ("a", "b", "c", "d", "e")
    assert [(one.reason, one.names) for one in found.report.passed] == [("links to nowhere", ("a/loop", "f.png"))]


def test_names_that_lead_out_of_it_are_only_names(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        for name in ("../../cat/1.png", "/dog/2.png"):
            add_member(tar, name, PNG)
    assert load(str(tmp_path / "set.tar"), SPEC).classes == ("cat", "dog")


def test_members_whose_names_would_become_one_are_all_read(tmp_path: Path) -> None:
    """But of the same name, as ``tar --append`` writes a newer one, the last counts."""
    first, second, last = (encode(image) for image in noise(3))
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        for name, content in (("../cat/1.png", first), ("./cat/1.png", second), ("cat/1.png", last)):
            add_member(tar, name, content)
    found = load(str(tmp_path / "set.tar"), SPEC)
    assert found.names == ("cat/1.png", "cat/~1.png")
    np.testing.assert_array_equal(found.images[:], noise(3)[[0, 2]])


def test_decomposed_names(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        add_member(tar, unicodedata.normalize("NFD", "Käfer/ü.png"), PNG)
    assert load(str(tmp_path / "set.tar"), SPEC).names == ("Käfer/ü.png",)


def test_empty_folders_and_other_files_are_named(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        for name in (".", "cat", "dog"):
            folder = tarfile.TarInfo(name)
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)
        add_member(tar, "./cat/1.png", PNG)
        add_member(tar, "./notes.txt", b"x")
    passed = load(str(tmp_path / "set.tar"), SPEC).report.passed
    assert [(one.reason, one.names) for one in passed] == [
        ("not images", ("notes.txt",)),
        ("folders without images", ("dog",)),
    ]


def test_shards_without_labels(tmp_path: Path) -> None:
    for shard in ("0.tar", "1.tar"):
        with tarfile.open(tmp_path / shard, "w") as tar:
            add_member(tar, "a.png", PNG)
            add_member(tar, "a.json", b'{"caption": "x"}')
    found = load(str(tmp_path), SPEC, labels=("cat", "dog"))
    assert (found.names, found.classes) == (("0.tar/a.png", "1.tar/a.png"), ())
    assert found.with_labels_of(("cat", "dog"), "set") is None


def add_link(tar: tarfile.TarFile, name: str, target: str, kind: bytes) -> None:
    link = tarfile.TarInfo(name)
    link.type, link.linkname = kind, target
    tar.addfile(link)
