"""Images that can't be read: a few are left out by name, many are an error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.small import encode
from tests.train.sets import SPEC, colours, noise, write_folder
from train.data import concatenate, load, read
from train.exceptions import DataError

DATA = colours(30)
DAMAGE = {"empty": b"", "text": b"no image", "a web page": b"<!DOCTYPE html><html>"}


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
        load(str(damaged(tmp_path, 2)), SPEC, strict=True, in_memory=in_memory)


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
    assert capsys.readouterr().err == (
        f"warning: {source}: 1 of 31 images can't be read and are left out: green/broken0.png\n"
    )
    (tmp_path / "green" / "broken0.png").unlink()
    read(source, SPEC)
    assert capsys.readouterr().err == ""


def test_commands_name_three_at_most(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(tmp_path, colours(60))
    read(str(damaged(tmp_path, 5)), SPEC)
    assert capsys.readouterr().err.endswith("green/broken0.png, green/broken1.png, green/broken2.png and 2 more\n")


def test_concatenate_keeps_the_names(tmp_path: Path) -> None:
    data = load(str(damaged(tmp_path, 1)), SPEC)
    assert concatenate([data, DATA, data]).skipped == ("green/broken0.png",) * 2


def test_one_class_is_nothing_to_learn(tmp_path: Path) -> None:
    folder = tmp_path / "textures"
    folder.mkdir()
    (folder / "1.png").write_bytes(encode(noise(1)[0]))
    with pytest.raises(DataError, match=r"train: expected at least 2 classes to learn, found \['textures'\]"):
        load(str(folder), SPEC).check_trainable("train")
    DATA.check_trainable("train")
