"""Sets of images: their labels by the classes of another, and whether they can be learned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.small import encode
from tests.train.sets import CLASSES, SPEC, colours, noise, write_folder
from train.data import ImageSet, load, read
from train.exceptions import DataError


def test_with_classes_keeps_names_and_changes_indices() -> None:
    data = colours(9)
    other = data.with_classes(("yellow", "red", "blue", "green"), "set")
    assert other.classes == ("yellow", "red", "blue", "green")
    assert [other.classes[i] for i in other.labels] == [data.classes[i] for i in data.labels]


def test_with_classes_takes_a_set_that_lacks_some() -> None:
    data = ImageSet(noise(2), np.array([0, 0]), ("red",), ("a", "b"))
    assert data.with_classes(CLASSES, "set").labels.tolist() == [2, 2]


def test_with_classes_names_the_unknown_class_and_the_source() -> None:
    with pytest.raises(DataError, match=r"val\.tar: class 'green' is not one of the model's \['blue', 'red'\]"):
        colours(6).with_classes(("blue", "red"), "val.tar")
    with pytest.raises(
        DataError, match=r"nor are 1 other classes: red\. Leave its images out, or call it as the model"
    ):
        colours(6).with_classes(("blue", "pink"), "val.tar")


def test_one_class_is_nothing_to_learn(tmp_path: Path) -> None:
    folder = tmp_path / "textures"
    folder.mkdir()
    (folder / "1.png").write_bytes(encode(noise(1)[0]))
    with pytest.raises(DataError, match=r"train: expected at least 2 classes to learn, found \['textures'\]"):
        load(str(folder), SPEC).check_trainable("train")
    colours(30).check_trainable("train")


def test_a_class_without_images_is_nothing_to_learn() -> None:
    known = colours(30)
    several = np.eye(3, dtype=bool)[known.labels] & [True, True, False]
    for labels in (np.minimum(known.labels, 1), several):
        with pytest.raises(DataError, match=rf"train@1/2: no image of {known.classes[2]}, which can't be learned"):
            replace(known, labels=labels).check_trainable("train@1/2")


def test_images_beside_the_class_folders_are_nothing_to_learn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(tmp_path / "set", colours(6))
    (tmp_path / "set" / "stray.png").write_bytes(encode(noise(1)[0]))
    monkeypatch.chdir(tmp_path / "set")
    found = read(".", SPEC)
    assert "set" in found.classes
    assert "1 beside the class folders, of a class called as the source: stray.png" in capsys.readouterr().out
    with pytest.raises(DataError, match=r"\.: stray\.png beside the class folders would be a class of their own"):
        found.check_trainable(".")


@pytest.mark.parametrize("stray", ["train/x.png", "x.png"])
def test_and_so_below_a_split(tmp_path: Path, stray: str) -> None:
    """An image that lies in a split, or beside it."""
    for name in ("train/cat/0.png", "train/dog/0.png", stray):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(encode(noise(1)[0]))
    found = load(str(tmp_path), SPEC)
    assert len(found.report.strays) == 1
    with pytest.raises(DataError, match="beside the class folders would be a class of their own"):
        found.check_trainable("set")


def test_a_class_that_is_called_as_a_folder_inside_others(tmp_path: Path) -> None:
    for name in ("cat/a.png", "dog/a.png", "bird/a.png", "cat/dog/b.png", "bird/dog/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(encode(noise(1)[0]))
    found = load(str(tmp_path), SPEC)
    assert found.classes == ("bird", "cat", "dog")
    assert [found.classes[i] for i in found.labels] == ["bird", "cat", "dog", "dog", "dog"]


def test_folders_of_one_name_are_one_class(tmp_path: Path) -> None:
    for folder in ("cam1/cat", "cam2/cat", "cam2/dog"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "0.png").write_bytes(encode(noise(1)[0]))
    found = load(str(tmp_path), SPEC)
    assert (found.classes, len(found)) == (("cat", "dog"), 3)
    assert found.report.remarks == ("folders of one name are one class: cat/ in cam1, cam2",)
