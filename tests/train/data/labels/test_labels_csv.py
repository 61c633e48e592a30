"""Labels by folders and by labels.csv: what they say, their parts, and every line that can be wrong."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest

from tests.small import encode
from tests.train.sets import CLASSES, SPEC, colours, noise, write_folder
from train.data import ImageSet, load
from train.exceptions import DataError

LINES = ["a/1.png,dog;cat", "2.png,", "b/3.png,cat"]
NAMES = ("2.png", "a/1.png", "b/3.png")
HOT = [[False, False], [True, True], [True, False]]  # of cat, dog


def write(path: Path, lines: list[str], names: tuple[str, ...] = NAMES) -> Path:
    path.mkdir(exist_ok=True)
    for name, image in zip(names, noise(len(names)), strict=True):
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(encode(image))
    (path / "labels.csv").write_text("\n".join(lines) + "\n")
    return path


def check(found: ImageSet) -> None:
    assert found.task == "multilabel"
    assert found.classes == ("cat", "dog")
    assert found.names == NAMES
    assert found.labels.dtype == np.bool_
    assert found.labels.tolist() == HOT
    np.testing.assert_array_equal(found.images[:], noise(3))


def test_flat_folder_is_one_class(tmp_path: Path) -> None:
    flat = tmp_path / "textures"
    flat.mkdir()
    for i, image in enumerate(noise(3)):
        (flat / f"{i}.png").write_bytes(encode(image))
    found = load(str(flat), SPEC)
    assert found.classes == ("textures",)
    assert found.labels.tolist() == [0, 0, 0]


def test_the_class_is_the_innermost_folder(tmp_path: Path) -> None:
    data = colours(6)
    write_folder(tmp_path / "a" / "b", data)
    assert load(str(tmp_path), SPEC).classes == CLASSES


@pytest.mark.parametrize(
    "header", [[], ["file,labels"], ["\ufefffile,labels"]], ids=["none", "header", "byte order mark"]
)
def test_folder(tmp_path: Path, header: list[str]) -> None:
    check(load(str(write(tmp_path / "set", header + LINES)), SPEC))


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_tar(tmp_path: Path, mode: str) -> None:
    write(tmp_path / "set", LINES)
    with tarfile.open(tmp_path / "set.tar", mode) as tar:  # type: ignore[call-overload]
        tar.add(tmp_path / "set", ".")
    check(load(str(tmp_path / "set.tar"), SPEC))


@pytest.mark.parametrize(
    "lines",
    [
        [" a/1.png , dog ; cat ", "2.png,", "", "b/3.png,cat"],
        ['"a/1.png","dog;cat"', "2.png,", "./b//3.png,cat"],
        LINES[::-1],
        [line.replace("/", "\\") for line in LINES],
        ['"a/1.png", "dog;cat"', "2.png,", "b/3.png, cat"],
        [line.replace(";", "|") for line in LINES],
    ],
    ids=["spaces", "quotes", "other order", "paths of Windows", "a space before a quote", "bars"],
)
def test_ways_to_write_the_same(tmp_path: Path, lines: list[str]) -> None:
    check(load(str(write(tmp_path / "set", lines)), SPEC))


def test_a_set_in_which_no_image_has_a_label(tmp_path: Path) -> None:
    """Unknown images for a multi-label model."""
    found = load(str(write(tmp_path / "set", [f"{name}," for name in NAMES])), SPEC)
    assert found.labels.shape == (3, 0)
    assert found.with_classes(("cat", "dog"), "set").labels.tolist() == [[False, False]] * 3
    with pytest.raises(DataError, match="at least 1 classes to learn"):
        found.check_trainable("set")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([*LINES, "4.png,cat"], "line 4: there is no image 4.png"),
        ([*LINES, "labels.csv,cat"], "line 4: there is no image labels.csv"),
        (["file,labels", *LINES, "2.png,cat"], "line 5: 2.png is listed in line 3 already"),
        (LINES[:2], r"has no line for b/3.png \(1 images in all\); .* the line 'b/3.png,'"),
        (["a/1.png", *LINES[1:]], "line 1: expected 'file,label;label;...', found 1 columns"),
        (["a/1.png,cat,dog", *LINES[1:]], "line 1: expected 'file,label;label;...', found 3 columns"),
        (["a/1.png,cat;;dog", *LINES[1:]], "line 1: a label of 'cat;;dog' is empty"),
        (["a/1.png,cat;", *LINES[1:]], "line 1: a label of 'cat;' is empty"),
        ([LINES[0], "2.png,cat;dog;cat", LINES[2]], "line 2: label 'cat' is given twice"),
        ([LINES[0], '2.png,"cat', LINES[2]], "line 3: unexpected end of data"),
        (
            [LINES[0], "2.png,\"['cat', 'dog']\"", LINES[2]],
            r"line 2: \"\['cat', 'dog'\]\" is a list as Python writes it",
        ),
        ([LINES[0], "2.png,[]", LINES[2]], r"line 2: '\[\]' is a list as Python writes it"),
    ],
)
def test_a_line_that_is_wrong_is_named(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(DataError, match=f"set: labels.csv.*{message}"):
        load(str(write(tmp_path / "set", lines)), SPEC)


def test_another_encoding(tmp_path: Path) -> None:
    (write(tmp_path / "set", LINES) / "labels.csv").write_bytes(b"a/1.png,M\xfcller\n")
    with pytest.raises(DataError, match=r"labels\.csv: expected UTF-8 text"):
        load(str(tmp_path / "set"), SPEC)


def test_labels_that_do_not_lie_at_the_root(tmp_path: Path) -> None:
    write(tmp_path / "set", LINES)
    with pytest.raises(DataError, match=r"set/labels\.csv must lie at the root"):
        load(str(tmp_path), SPEC)


def test_labels_without_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images"):
        load(str(write(tmp_path / "set", [], names=())), SPEC)


def test_parts_are_random_halves_of_all_images(tmp_path: Path) -> None:
    names = tuple(f"{i:03}.png" for i in range(101))
    source = str(write(tmp_path / "set", [f"{name},{'cat' if i < 9 else ''}" for i, name in enumerate(names)], names))
    halves = [load(f"{source}@{i}/2", SPEC) for i in (1, 2)]
    assert [len(half) for half in halves] == [51, 50]
    assert sorted(halves[0].names + halves[1].names) == list(names)
    ranks = np.array([int(name[:3]) for name in halves[0].names])
    assert ranks.mean() == pytest.approx(50, abs=4 * 2.9)  # standard error of 51 of 101 drawn: 2.9
    for half in halves:
        assert half.labels[:, 0].tolist() == [int(name[:3]) < 9 for name in half.names]
    with pytest.raises(DataError, match=r"no images in this part; 101 are too few for 102 parts$"):
        load(f"{source}@102/102", SPEC)


def test_with_classes_moves_the_columns(tmp_path: Path) -> None:
    found = load(str(write(tmp_path / "set", LINES)), SPEC).with_classes(("dog", "fox", "cat"), "set")
    assert found.labels.tolist() == [[dog, False, cat] for cat, dog in HOT]


def test_with_classes_names_the_unknown_label_and_its_image(tmp_path: Path) -> None:
    data = load(str(write(tmp_path / "set", LINES)), SPEC)
    with pytest.raises(DataError, match=r"val: label 'dog', of a/1\.png, is not one of the model's \['cat'\]"):
        data.with_classes(("cat",), "val")
