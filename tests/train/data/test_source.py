"""Parts of a source, and its name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.train.sets import CLASSES, SPEC, check_equal, colours, noise, write_folder, write_tar
from train.data import ImageSet, load, short_name
from train.data.source import part
from train.exceptions import DataError


@pytest.mark.parametrize("count", [2, 3, 5])
def test_parts_are_disjoint_complete_and_stratified(tmp_path: Path, count: int) -> None:
    data = colours(40)
    source = str(write_folder(tmp_path / "set", data))
    parts = [load(f"{source}@{i}/{count}", SPEC) for i in range(1, count + 1)]
    names = [name for one in parts for name in one.names]
    assert sorted(names) == sorted(data.names)
    for label in range(len(CLASSES)):
        sizes = [(one.labels == label).sum() for one in parts]
        assert max(sizes) - min(sizes) <= 1
    assert all(one.classes == CLASSES for one in parts)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_parts_are_of_one_size_where_classes_have_an_image_or_two(count: int) -> None:
    """Not the first part has every class's odd image: 428 classes of 560 images have halves of 280."""
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(9), [1, 1, 1, 2, 1, 3, 1, 2, 7]))
    names = [f"{i}.png" for i in range(len(labels))]
    parts = [part(names, labels, i, count) for i in range(1, count + 1)]
    assert sorted(np.concatenate(parts)) == list(range(19))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    each = np.array([np.bincount(labels[found], minlength=9) for found in parts])
    assert (each.max(axis=0) - each.min(axis=0)).max() <= 1


def test_a_half_is_two_of_four_parts() -> None:
    """The first and third quarters are the first half; the second is in the other."""
    labels = np.repeat(np.arange(9), [1, 1, 1, 2, 1, 3, 1, 2, 7])
    names = [f"{i}.png" for i in range(len(labels))]
    quarters = [part(names, labels, i, 4).tolist() for i in (1, 3)]
    assert sorted(quarters[0] + quarters[1]) == part(names, labels, 1, 2).tolist()


def test_a_part_keeps_image_label_and_name_together(tmp_path: Path) -> None:
    data = colours(40)
    third = load(f"{write_tar(tmp_path / 'set.tar', data)}@2/3", SPEC)
    whole = {name: (image, label) for name, image, label in zip(data.names, data.images, data.labels, strict=True)}
    for name, image, label in zip(third.names, third.images, third.labels, strict=True):
        np.testing.assert_array_equal(image, whole[name][0])
        assert label == whole[name][1]


def test_parts_of_a_tar_are_those_of_its_folder(tmp_path: Path) -> None:
    data = colours(40)
    folder, tar = write_folder(tmp_path / "set", data), write_tar(tmp_path / "other.tar", data)
    for half in ("@1/2", "@2/2"):
        check_equal(load(f"{folder}{half}", SPEC), load(f"{tar}{half}", SPEC))


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


@pytest.mark.parametrize("which", ["@0/2", "@3/2", "@1/0"])
def test_a_part_that_does_not_exist(tmp_path: Path, which: str) -> None:
    write_folder(tmp_path / "set", colours(6))
    with pytest.raises(DataError, match=which):
        load(f"{tmp_path / 'set'}{which}", SPEC)


def test_a_part_without_images(tmp_path: Path) -> None:
    write_folder(tmp_path / "set", colours(3))
    with pytest.raises(DataError, match="no images"):
        load(f"{tmp_path / 'set'}@4/4", SPEC)


@pytest.mark.parametrize(
    ("source", "name"),
    [("/data/val.tar@1/2", "val.tar@1/2"), ("some/where/dtd/", "dtd"), ("set.npz", "set.npz"), ("a/set@1/1", "set")],
)
def test_short_name(source: str, name: str) -> None:
    assert short_name(source) == name


def test_parts_of_a_flat_folder_are_those_of_its_archive(tmp_path: Path) -> None:
    """Whose images lie in a folder: no half of one shares an image with the other half of the other."""
    data = colours(20)
    flat = ImageSet(data.images, np.zeros(20, np.int64), ("all",), tuple(f"{i}.png" for i in range(20)))
    folder = write_folder(tmp_path / "photos", flat)
    archive = write_tar(tmp_path / "photos.tar", flat, prefix="photos/")
    for half in ("@1/2", "@2/2"):
        names = [Path(name).name for name in load(f"{folder}{half}", SPEC).names]
        assert names == [Path(name).name for name in load(f"{archive}{half}", SPEC).names]


def test_parts_do_not_depend_on_the_order_of_images_of_one_name() -> None:
    names = [f"{top}/cat/1.png" for top in "xyzw"]
    chosen = {names[i] for i in part(names, np.zeros(4, np.int64), 1, 2)}
    backwards = names[::-1]
    assert chosen == {backwards[i] for i in part(backwards, np.zeros(4, np.int64), 1, 2)}
