"""Arrays of an .npz: the kinds of labels, and every way in which they can be wrong."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.train.sets import SPEC, noise
from train.data import load
from train.exceptions import DataError

HOT = [[False, False], [True, True], [True, False]]  # of cat, dog


def test_npz_with_integer_labels(tmp_path: Path) -> None:
    images = noise(5)
    np.savez(tmp_path / "set.npz", images=images, labels=[10, 2, 10, 7, 2])
    found = load(str(tmp_path / "set.npz"), SPEC)
    np.testing.assert_array_equal(found.images, images)
    assert [found.classes[label] for label in found.labels] == ["10", "2", "10", "7", "2"]


def test_npz_with_names_as_labels(tmp_path: Path) -> None:
    labels = ["ship", "cat", "ship", "dog"]
    np.savez_compressed(tmp_path / "set.npz", images=noise(4), labels=labels)
    found = load(str(tmp_path / "set.npz"), SPEC)
    assert found.classes == ("cat", "dog", "ship")
    assert [found.classes[label] for label in found.labels] == labels
    assert found.labels.dtype == np.int64


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"labels": [0, 1]}, "images"),
        ({"images": noise(2).astype(np.float32), "labels": [0, 1]}, r"must be uint8 .* found float32 \[2, 8, 8, 3\]"),
        ({"images": noise(2)[..., 0], "labels": [0, 1]}, r"found uint8 \[2, 8, 8\]"),
        ({"images": noise(2)[..., :1], "labels": [0, 1]}, r"found uint8 \[2, 8, 8, 1\]"),
        ({"images": noise(2).transpose(0, 3, 1, 2), "labels": [0, 1]}, r"found uint8 \[2, 3, 8, 8\]"),
        ({"images": noise(2), "labels": [0, 1, 2]}, r"one label an image, found \[3\] for 2"),
        ({"images": noise(2), "labels": [[0], [1]]}, r"one label an image, found \[2, 1\] for 2"),
        ({"images": noise(0), "labels": []}, ""),
        ({"images": noise(2), "labels": np.array(["cat", None], dtype=object)}, "allow_pickle"),
    ],
)
def test_npz_with_other_arrays(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(DataError, match=rf"set\.npz: .*{message}"):
        load(str(tmp_path / "set.npz"), SPEC)


def test_npz_with_images_of_no_size(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=np.zeros((2, 0, 8, 3), np.uint8), labels=[0, 1])
    with pytest.raises(DataError, match=r"set\.npz"):
        load(str(tmp_path / "set.npz"), SPEC)


@pytest.mark.parametrize(
    "content", [b"", b"this is text", b"PK\x03\x04" + bytes(60)], ids=["empty", "text", "broken zip"]
)
def test_file_that_is_no_npz(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "set.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"set\.npz: expected an \.npz"):
        load(str(tmp_path / "set.npz"), SPEC)


def test_npy_under_the_name_of_an_npz(tmp_path: Path) -> None:
    with (tmp_path / "set.npz").open("wb") as file:
        np.save(file, noise(2))
    with pytest.raises(DataError, match=r"set\.npz: expected an \.npz"):
        load(str(tmp_path / "set.npz"), SPEC)


def test_npz_damaged_anywhere(tmp_path: Path) -> None:
    """Eight bytes overwritten at each of many places: read as it was, or refused by name."""
    file = tmp_path / "set.npz"
    np.savez_compressed(file, images=noise(4), labels=[0, 1, 0, 1])
    content = file.read_bytes()
    for start in range(0, len(content) - 8, 7):
        file.write_bytes(content[:start] + b"\xa5" * 8 + content[start + 8 :])
        with suppress(DataError):
            load(str(file), SPEC)


def test_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=noise(3), labels=np.array(HOT)[:, ::-1].astype(int), classes=["dog", "cat"])
    found = load(str(tmp_path / "set.npz"), SPEC)
    assert found.classes == ("cat", "dog")
    assert found.labels.tolist() == HOT
    assert found.task == "multilabel"


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        ([[0, 2], [1, 1]], ["cat", "dog"], r"must be zeros and ones, found 0 to 2"),
        ([[0, 1], [1, 1]], ["cat", "cat"], r"classes must be distinct"),
        ([[0, 1], [1, 1]], ["cat"], r"found \[2, 2\] for 2 images; .* of K names, found \[1\]"),
        ([[0, 1], [1, 1], [0, 0]], ["cat", "dog"], r"found \[3, 2\] for 2 images"),
    ],
)
def test_npz_with_other_labels(tmp_path: Path, labels: list[list[int]], classes: list[str], message: str) -> None:
    np.savez(tmp_path / "set.npz", images=noise(2), labels=labels, classes=classes)
    with pytest.raises(DataError, match=rf"set\.npz: .*{message}"):
        load(str(tmp_path / "set.npz"), SPEC)


def test_npz_without_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=noise(5))
    found = load(str(tmp_path / "set.npz"), SPEC)
    np.testing.assert_array_equal(found.images, noise(5))
    assert not found.labelled
    with pytest.raises(DataError, match="its images have no labels, and labels are needed"):
        found.with_classes(("cat",), "set.npz")


@pytest.mark.parametrize(("names", "labelled"), [(("arr_0",), False), (("x", "y"), True), (("data", "labels"), True)])
def test_the_only_array_that_may_be_images_is_taken_and_said(
    tmp_path: Path, names: tuple[str, ...], labelled: bool
) -> None:
    np.savez(tmp_path / "set.npz", **dict(zip(names, (noise(2), np.array([0, 1])), strict=False)))
    found = load(str(tmp_path / "set.npz"), SPEC)
    assert (len(found), found.labelled) == (2, labelled)
    assert found.report.remarks == (f"images are the array {names[0]!r}, the only one that may be",)


def test_several_arrays_that_may_be_images(tmp_path: Path) -> None:
    np.savez(tmp_path / "mnist.npz", x_train=noise(2), x_test=noise(2))
    with pytest.raises(DataError, match=r"expected an \.npz with an array 'images'.*found 'x_train', 'x_test'"):
        load(str(tmp_path / "mnist.npz"), SPEC)


@pytest.mark.parametrize("labels", [np.array([b"dog", b"cat"]), np.array([1.0, 0.0]), np.array([1, 0], np.uint8)])
def test_labels_of_other_types(tmp_path: Path, labels: Any) -> None:
    np.savez(tmp_path / "set.npz", images=noise(2), labels=labels)
    found = load(str(tmp_path / "set.npz"), SPEC)
    assert found.classes in (("cat", "dog"), ("0", "1"))
    assert found.labels.tolist() == [1, 0]


def test_numbers_of_classes(tmp_path: Path) -> None:
    """They are in the order of `classes`, whatever order a model's labels are in."""
    np.savez(tmp_path / "set.npz", images=noise(4), labels=[0, 1, 2, 1], classes=["cat", "dog", "bird"])
    found = load(str(tmp_path / "set.npz"), SPEC)
    assert found.classes == ("bird", "cat", "dog")
    assert [found.classes[label] for label in found.labels] == ["cat", "dog", "bird", "dog"]


def test_truth_is_a_number_of_two_classes(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=noise(2), labels=[True, False], classes=["good", "bad"])
    found = load(str(tmp_path / "set.npz"), SPEC)
    assert [found.classes[label] for label in found.labels] == ["bad", "good"]


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (["cat", "bird"], ["cat", "dog"], "the label 'bird' is none of its 2 classes"),
        ([0, 1], [["cat"], ["dog"]], r"expected 'classes' \[K\], found \[2, 1\]"),
        ([0, 2], ["cat", "dog"], "labels must be from 0 to 1, as there are 2 classes; found 0 to 2"),
        ([-1, 0], ["cat", "dog"], "found -1 to 0"),
        ([0, 1], ["cat", "cat"], "classes must be distinct"),
    ],
)
def test_numbers_of_no_classes(tmp_path: Path, labels: list[Any], classes: list[Any], message: str) -> None:
    np.savez(tmp_path / "set.npz", images=noise(2), labels=labels, classes=classes)
    with pytest.raises(DataError, match=message):
        load(str(tmp_path / "set.npz"), SPEC)
