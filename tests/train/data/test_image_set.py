"""Sets of images: their labels by the classes of another, and whether they can be learned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.small import encode
from tests.train.sets import CLASSES, SPEC, colours, noise
from train.data import ImageSet, load
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
