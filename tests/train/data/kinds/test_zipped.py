"""Zips: read like the folder that they were made of, and never written anywhere."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.small import encode
from tests.train.sets import SPEC, check_equal, colours, noise, write_folder
from train.data import LazyImages, load, read
from train.exceptions import DataError

DATA = colours(20)
PNG = encode(noise(1)[0])


def write_zip(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def members() -> dict[str, bytes]:
    return {name: encode(image) for name, image in zip(DATA.names, DATA.images, strict=True)}


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zip(tmp_path: Path, method: int, in_memory: bool) -> None:
    found = load(str(write_zip(tmp_path / "set.zip", members(), method)), SPEC, in_memory=in_memory)
    assert isinstance(found.images, LazyImages) != in_memory
    np.testing.assert_array_equal(found.images[:], DATA.images)
    assert (found.names, found.classes) == (DATA.names, DATA.classes)


def test_parts_are_those_of_the_folder(tmp_path: Path) -> None:
    folder, archive = write_folder(tmp_path / "set", DATA), write_zip(tmp_path / "other.zip", members())
    for part in ("@1/2", "@2/2"):
        check_equal(load(f"{archive}{part}", SPEC), load(f"{folder}{part}", SPEC))


def test_what_macos_puts_into_it_is_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = {f"set/{name}": content for name, content in members().items()}
    junk = {"__MACOSX/set/blue/._0000.png": PNG, "set/.DS_Store": b"x", "set/blue/Thumbs.db": b"x"}
    check_equal(read(str(write_zip(tmp_path / "set.zip", junk | own)), SPEC), DATA)
    assert "skipped 3 files: 3 hidden" in capsys.readouterr().out


def test_names_that_lead_out_of_it_are_only_names(tmp_path: Path) -> None:
    names = ["../../cat/1.png", "/dog/2.png", "..\\ship\\3.png", "C:\\cat\\4.png"]
    before = sorted(tmp_path.rglob("*"))
    found = load(str(write_zip(tmp_path / "set.zip", dict.fromkeys(names, PNG))), SPEC)
    assert found.classes == ("cat", "dog", "ship")
    assert sorted(tmp_path.rglob("*")) == [*before, tmp_path / "set.zip"]


def test_names_in_utf_8_without_saying_so(tmp_path: Path) -> None:
    """macOS's archives: the flag is missing."""
    file = write_zip(tmp_path / "set.zip", {"Kafer/1.png": PNG, "Xafer/1.png": PNG})
    file.write_bytes(file.read_bytes().replace(b"Kafer", "Käf".encode() + b"r").replace(b"Xafer", b"K\x84fer"))
    assert "Käfr" not in load(str(file), SPEC).classes[0]  # not UTF-8 as a whole: each as the zip's own encoding
    file = write_zip(tmp_path / "other.zip", {"Kafer/1.png": PNG})
    file.write_bytes(file.read_bytes().replace(b"Kafer", "Käf".encode() + b"r"))
    assert load(str(file), SPEC).classes == ("Käfr",)


def test_links_are_followed(tmp_path: Path) -> None:
    file = write_zip(tmp_path / "set.zip", {"a/1.png": PNG})
    with zipfile.ZipFile(file, "a") as archive:
        for name, target in (("b", "a"), ("c/2.png", "../a/1.png"), ("d.png", "nowhere.png")):
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, target)
    found = load(str(file), SPEC)
    assert found.names == ("a/1.png", "b/1.png", "c/2.png")
    assert [(one.reason, one.names) for one in found.report.passed] == [("links to nowhere", ("d.png",))]


def test_a_huge_member_is_left_out_and_not_unpacked(tmp_path: Path) -> None:
    """24 MiB of zeros behind a PNG's head, in 24 kB: no more than the limit on one image is unpacked."""
    file = write_zip(tmp_path / "set.zip", {**members(), "blue/huge.png": PNG[:64] + bytes(24 * 2**20)})
    found = load(str(file), SPEC)
    assert found.skipped == ("blue/huge.png",)
    (passed,) = found.report.passed
    assert passed.detail == "the image has 20,971,521 bytes; the limit is 20,971,520"


def test_a_damaged_member_is_left_out(tmp_path: Path) -> None:
    file = write_zip(tmp_path / "set.zip", members(), zipfile.ZIP_STORED)
    content = bytearray(file.read_bytes())
    at = content.index(members()[DATA.names[4]]) + 60
    content[at] ^= 0xFF
    file.write_bytes(content)
    assert load(str(file), SPEC).skipped == (DATA.names[4],)


def test_an_encrypted_zip(tmp_path: Path) -> None:
    file = write_zip(tmp_path / "set.zip", {"cat/1.png": PNG}, zipfile.ZIP_STORED)
    content = bytearray(file.read_bytes())
    for magic, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(magic) + flags] |= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"set\.zip: cat/1\.png is encrypted; unpack it"):
        load(str(file), SPEC)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04" + bytes(40), b"text"])
def test_a_file_that_is_no_zip(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "set.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"set\.zip: not a readable zip"):
        load(str(tmp_path / "set.zip"), SPEC)


def test_labels_csv_in_a_zip(tmp_path: Path) -> None:
    file = write_zip(tmp_path / "set.zip", {"a/1.png": PNG, "2.png": PNG, "labels.csv": b"a/1.png,cat;dog\n2.png,\n"})
    assert load(str(file), SPEC).labels.tolist() == [[False, False], [True, True]]


def test_members_whose_names_would_become_one_are_all_read(tmp_path: Path) -> None:
    names = ["../cat/1.png", "cat/1.png", "/cat/1.png", "cat/2.png"]
    contents = [encode(image) for image in noise(4)]
    found = load(str(write_zip(tmp_path / "set.zip", dict(zip(names, contents, strict=True)))), SPEC)
    assert sorted(image.tobytes() for image in found.images[:]) == sorted(image.tobytes() for image in noise(4))
    assert found.names == ("cat/1.png", "cat/2.png", "cat/~1.png", "cat/~~1.png")
    assert found.classes == ("cat",)
