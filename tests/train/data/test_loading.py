"""Directories, tars and arrays: what is read from them, and what is refused."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from runtime.manifest import InputSpec
from tests.small import encode
from tests.train.sets import SPEC, add_member, check_equal, colours, noise, write_folder, write_tar
from train.data import Reading, concatenate, load, read
from train.exceptions import DataError

HALF = InputSpec(4, 4, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
DATA = colours(30)
DAMAGE = {"empty": b"", "text": b"no image", "a web page": b"<!DOCTYPE html><html>"}


def test_folder(tmp_path: Path) -> None:
    data = colours(20)
    found = load(str(write_folder(tmp_path / "set", data)), SPEC)
    check_equal(found, data)
    assert found.names == data.names


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tar(tmp_path: Path, mode: str) -> None:
    data = colours(20)
    found = load(str(write_tar(tmp_path / "set.tar", data, mode)), SPEC)
    check_equal(found, data)
    assert found.names == data.names


@pytest.mark.parametrize("prefix", ["./", "deep/folder/", "./a//", "/"])
def test_tar_in_which_the_names_have_a_prefix(tmp_path: Path, prefix: str) -> None:
    """`tar -C DIR -c .` writes ./cat/1.png."""
    data = colours(6)
    check_equal(load(str(write_tar(tmp_path / "set.tar", data, prefix=prefix)), SPEC), data)


def test_more_files_than_are_read_at_once(tmp_path: Path) -> None:
    data = colours(1030)
    check_equal(load(str(write_tar(tmp_path / "set.tar", data)), SPEC), data)


def test_npz_and_folder_are_resized_alike(tmp_path: Path) -> None:
    data = colours(9)
    np.savez(tmp_path / "set.npz", images=data.images, labels=data.labels)
    found = load(str(tmp_path / "set.npz"), HALF)
    assert found.images.shape == (9, 4, 4, 3)
    np.testing.assert_array_equal(found.images, load(str(write_folder(tmp_path / "set", data)), HALF).images)


def test_files_of_any_size_and_format(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    grey = np.full((30, 20, 3), 77, np.uint8)
    for name, format_ in (("1.PNG", "PNG"), ("2.jpeg", "JPEG"), ("3.bmp", "BMP"), ("4.webp", "WEBP")):
        (tmp_path / "cat" / name).write_bytes(encode(grey, format_))
    found = load(str(tmp_path), SPEC)
    assert found.images.shape == (4, 8, 8, 3)
    assert np.abs(found.images.astype(int) - 77).max() <= 2


def test_other_files_are_passed_over(tmp_path: Path) -> None:
    data = colours(3)
    write_folder(tmp_path, data)
    (tmp_path / "README.txt").write_text("no image")
    (tmp_path / "blue" / "Thumbs.db").write_bytes(b"\0")
    (tmp_path / "empty").mkdir()
    check_equal(load(str(tmp_path), SPEC), data)


@pytest.mark.parametrize("name", ["nowhere", "nowhere.tar", "nowhere.npz"])
def test_missing_source(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"nowhere.*[Nn]o such"):
        load(str(tmp_path / name), SPEC)


def test_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    with pytest.raises(DataError, match=r"no images; expected one folder a class with .*\.png"):
        load(str(tmp_path), SPEC)


def test_folder_with_other_files_only(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(DataError, match=r"no images; .* found 1 other files, such as notes\.txt"):
        load(str(tmp_path), SPEC)


def test_tar_without_images(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        add_member(tar, "cat/notes.txt", b"no image")
    with pytest.raises(DataError, match="no images"):
        load(str(tmp_path / "set.tar"), SPEC)


def test_damaged_image_in_a_folder_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path, colours(6))
    (tmp_path / "green" / "broken.png").write_bytes(encode(noise(1)[0])[:100])
    with pytest.raises(DataError, match=r"green/broken\.png: .*damaged"):
        load(str(tmp_path), SPEC)


def test_damaged_image_in_a_tar_is_named(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        add_member(tar, "cat/good.png", encode(noise(1)[0]))
        add_member(tar, "cat/broken.png", b"no image")
    with pytest.raises(DataError, match=r"set\.tar: .*cat/broken\.png: .*not an image"):
        load(str(tmp_path / "set.tar"), SPEC)


def damaged(path: Path, count: int, content: bytes = b"no image") -> Path:
    """The set with `count` files more, none of them an image."""
    write_folder(path, DATA)
    for i in range(count):
        (path / "green" / f"broken{i}.png").write_bytes(content)
    return path


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("kind", DAMAGE)
def test_a_few_are_left_out_by_name(tmp_path: Path, kind: str, in_memory: bool) -> None:
    found = load(str(damaged(tmp_path, 3, DAMAGE[kind])), SPEC, in_memory=in_memory)
    assert found.skipped == ("green/broken0.png", "green/broken1.png", "green/broken2.png")
    assert found.names == DATA.names
    np.testing.assert_array_equal(found.images[:], DATA.images)
    np.testing.assert_array_equal(found.labels, DATA.labels)


def test_a_truncated_image_is_left_out(tmp_path: Path) -> None:
    damaged(tmp_path, 1, encode(noise(1)[0])[:100])
    assert load(str(tmp_path), SPEC).skipped == ("green/broken0.png",)


@pytest.mark.parametrize("in_memory", [True, False])
def test_one_is_an_error_if_strict(tmp_path: Path, in_memory: bool) -> None:
    with pytest.raises(DataError, match=r"green/broken0\.png: the bytes are not an image"):
        load(str(damaged(tmp_path, 2)), SPEC, reading=Reading(strict=True), in_memory=in_memory)


@pytest.mark.parametrize("in_memory", [True, False])
def test_more_than_a_tenth_is_an_error(tmp_path: Path, in_memory: bool) -> None:
    with pytest.raises(DataError, match=r"4 of 34 images can't be read, more than a tenth; green/broken0\.png: "):
        load(str(damaged(tmp_path, 4)), SPEC, in_memory=in_memory)


def test_a_link_to_nowhere_is_left_out(tmp_path: Path) -> None:
    write_folder(tmp_path, DATA)
    (tmp_path / "red" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert load(str(tmp_path), SPEC).skipped == ("red/gone.png",)


def test_the_other_images_stay_in_their_parts(tmp_path: Path) -> None:
    source = str(write_folder(tmp_path, DATA))
    whole = [load(f"{source}@{i}/2", SPEC) for i in (1, 2)]
    victim = whole[0].names[2]
    (tmp_path / victim).write_bytes(b"no image")
    left = [load(f"{source}@{i}/2", SPEC) for i in (1, 2)]
    assert left[1].names == whole[1].names
    assert left[0].names == tuple(name for name in whole[0].names if name != victim)
    assert left[0].skipped == (victim,)


def test_commands_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = str(damaged(tmp_path, 1))
    assert len(read(source, SPEC)) == 30
    assert capsys.readouterr().out == (
        f"{source}: 30 images in 3 classes, labels = innermost folder; skipped 1 file: 1 unreadable (green/broken0.png: the "
        "bytes are not an image of an accepted format)\n"
    )
    (tmp_path / "green" / "broken0.png").unlink()
    read(source, SPEC)
    assert capsys.readouterr().out == f"{source}: 30 images in 3 classes, labels = innermost folder\n"


def test_commands_name_three_at_most(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(tmp_path, colours(60))
    read(str(damaged(tmp_path, 5)), SPEC)
    assert capsys.readouterr().out.endswith("format, green/broken1.png, green/broken2.png and 2 more)\n")


def test_concatenate_keeps_the_names(tmp_path: Path) -> None:
    data = load(str(damaged(tmp_path, 1)), SPEC)
    assert concatenate([data, DATA, data]).skipped == ("green/broken0.png",) * 2


def test_reading_images_needs_no_torch(tmp_path: Path) -> None:
    """Nor does mean average precision: a model is calibrated and evaluated where torch is not installed."""
    code = """
import sys
import train.metrics
from runtime.manifest import InputSpec
from train.data import load
spec = InputSpec(4, 4, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
images = [load(sys.argv[1], spec, in_memory=held).images[:] for held in (True, False)]
print(*map(len, images), "torch" in sys.modules)
"""
    source = str(write_tar(tmp_path / "set.tar", DATA))
    done = subprocess.run([sys.executable, "-c", code, source], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("30 30 False\n", "")
