"""Class folders and arrays: what is read from them, their parts, and every way in which they can be wrong."""

from __future__ import annotations

import tarfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.manifest import InputSpec
from tests.small import encode
from tests.train.sets import CLASSES, SPEC, add_member, colours, noise, write_folder, write_tar
from train.data import ImageSet, load, short_name
from train.exceptions import DataError

HALF = InputSpec(4, 4, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def check_equal(found: ImageSet, expected: ImageSet) -> None:
    np.testing.assert_array_equal(found.images, expected.images)
    np.testing.assert_array_equal(found.labels, expected.labels)
    assert found.images.dtype == np.uint8
    assert found.labels.dtype == np.int64
    assert found.classes == expected.classes
    assert len(found) == len(expected)


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


@pytest.mark.parametrize("count", [2, 3, 5])
def test_parts_are_disjoint_complete_and_stratified(tmp_path: Path, count: int) -> None:
    data = colours(40)
    source = str(write_folder(tmp_path / "set", data))
    parts = [load(f"{source}@{i}/{count}", SPEC) for i in range(1, count + 1)]
    names = [name for part in parts for name in part.names]
    assert sorted(names) == sorted(data.names)
    for label in range(len(CLASSES)):
        sizes = [(part.labels == label).sum() for part in parts]
        assert max(sizes) - min(sizes) <= 1
    assert all(part.classes == CLASSES for part in parts)


def test_a_part_keeps_image_label_and_name_together(tmp_path: Path) -> None:
    data = colours(40)
    part = load(f"{write_tar(tmp_path / 'set.tar', data)}@2/3", SPEC)
    whole = {name: (image, label) for name, image, label in zip(data.names, data.images, data.labels, strict=True)}
    for name, image, label in zip(part.names, part.images, part.labels, strict=True):
        np.testing.assert_array_equal(image, whole[name][0])
        assert label == whole[name][1]


def test_parts_of_a_tar_are_those_of_its_folder(tmp_path: Path) -> None:
    data = colours(40)
    folder, tar = write_folder(tmp_path / "set", data), write_tar(tmp_path / "other.tar", data)
    for part in ("@1/2", "@2/2"):
        check_equal(load(f"{folder}{part}", SPEC), load(f"{tar}{part}", SPEC))


def test_parts_are_drawn_without_regard_to_the_order_of_the_names(tmp_path: Path) -> None:
    """A half holds neither the first images nor every other one: its ranks have no mean and no parity of their own."""
    write_folder(tmp_path / "set", colours(300))
    ranks = np.array([int(name[-8:-4]) for name in load(f"{tmp_path / 'set'}@1/2", SPEC).names])
    assert ranks.mean() == pytest.approx(149.5, abs=4 * 5)  # standard error of 150 of 300 drawn: 5
    assert (ranks % 2).mean() == pytest.approx(0.5, abs=4 * 0.03)


def test_parts_of_an_npz_are_stratified_whatever_the_order(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=noise(8), labels=[0, 1, 0, 0, 1, 1, 0, 1])
    halves = [load(f"{tmp_path / 'set.npz'}@{i}/2", SPEC) for i in (1, 2)]
    assert [np.bincount(half.labels).tolist() for half in halves] == [[2, 2], [2, 2]]
    assert {*halves[0].names} & {*halves[1].names} == set()


def test_one_part_of_one_is_everything(tmp_path: Path) -> None:
    data = colours(6)
    check_equal(load(f"{write_folder(tmp_path / 'set', data)}@1/1", SPEC), data)


@pytest.mark.parametrize("part", ["@0/2", "@3/2", "@1/0"])
def test_a_part_that_does_not_exist(tmp_path: Path, part: str) -> None:
    write_folder(tmp_path / "set", colours(6))
    with pytest.raises(DataError, match=part):
        load(f"{tmp_path / 'set'}{part}", SPEC)


def test_a_part_without_images(tmp_path: Path) -> None:
    write_folder(tmp_path / "set", colours(3))
    with pytest.raises(DataError, match="no images"):
        load(f"{tmp_path / 'set'}@2/2", SPEC)


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


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": noise(2)}, "labels"),
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


@pytest.mark.parametrize(
    ("source", "name"),
    [("/data/val.tar@1/2", "val.tar@1/2"), ("some/where/dtd/", "dtd"), ("set.npz", "set.npz"), ("a/set@1/1", "set")],
)
def test_short_name(source: str, name: str) -> None:
    assert short_name(source) == name
