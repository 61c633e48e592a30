"""WebDataset shards: numbers, names, JSON, and every sample that can be wrong."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from runtime.exceptions import OodgateError
from tests.small import encode
from tests.train.sets import SPEC, add_member, noise
from train.data import load
from train.exceptions import DataError

IMAGES = noise(6)
LABELLED = {"b.png": b"", "b.cls": b"1"}
NUMBERS = [10, 2, 2, 0, 10, 2]


def write_shard(path: Path, samples: list[int], extension: str = "cls") -> Path:
    """Samples by their indices in IMAGES."""
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for i in samples:
            label = json.dumps({"label": NUMBERS[i], "width": 8}) if extension == "json" else f"{NUMBERS[i]}\n"
            add_member(tar, f"s{i}.{extension}", label.encode())
            add_member(tar, f"s{i}.png", encode(IMAGES[i]))
    return path


@pytest.fixture(params=["cls", "json"])
def shards(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Two shards of three samples each, and nothing else."""
    for shard in range(2):
        write_shard(
            tmp_path / "set" / f"train-{shard:03}.tar", [3 * shard, 3 * shard + 1, 3 * shard + 2], request.param
        )
    return tmp_path / "set"


@pytest.mark.parametrize("form", ["", "train-{000..001}.tar"], ids=["directory", "pattern"])
def test_shards(shards: Path, form: str) -> None:
    found = load(str(shards / form), SPEC)
    np.testing.assert_array_equal(found.images[:], IMAGES)
    assert found.classes == ("0", "2", "10")
    assert [int(found.classes[label]) for label in found.labels] == NUMBERS
    assert found.names[3] == "train-001.tar/s3.png"


def test_one_tar(tmp_path: Path) -> None:
    found = load(str(write_shard(tmp_path / "set.tar", [0, 1, 2])), SPEC)
    assert found.classes == ("2", "10")
    assert found.labels.tolist() == [1, 0, 0]


def test_a_range_of_the_shards(shards: Path) -> None:
    assert load(str(shards / "train-{001..001}.tar"), SPEC).names[0] == "train-001.tar/s3.png"


def test_two_ranges(tmp_path: Path) -> None:
    for a in range(2):
        for b in range(2):
            write_shard(tmp_path / f"{a}-{b:02}.tar", [2 * a + b])
    names = load(str(tmp_path / "{0..1}-{00..01}.tar"), SPEC).names
    assert names == ("0-00.tar/s0.png", "0-01.tar/s1.png", "1-00.tar/s2.png", "1-01.tar/s3.png")


def test_class_names_in_a_file_beside_them(shards: Path) -> None:
    classes = [f"class {chr(ord('z') - i)}" for i in range(11)]
    (shards / "classes.txt").write_text("\n".join(classes) + "\n")
    for source in (shards, shards / "train-{000..001}.tar"):
        found = load(str(source), SPEC)
        assert found.classes == tuple(classes)
        assert found.labels.tolist() == NUMBERS


def test_names_as_labels(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        for i, label in enumerate(("sea lion", "ant", "sea lion")):
            add_member(tar, f"deep.er/s{i}.x.png", encode(IMAGES[i]))
            add_member(tar, f"deep.er/s{i}.cls", label.encode())
    found = load(str(tmp_path / "set.tar"), SPEC)
    assert found.classes == ("ant", "sea lion")
    assert found.labels.tolist() == [1, 0, 1]


def test_parts_are_stratified(shards: Path) -> None:
    halves = [load(f"{shards}@{i}/2", SPEC) for i in (1, 2)]
    assert [np.bincount(half.labels, minlength=3).tolist() for half in halves] == [[1, 1, 1], [0, 2, 1]]
    assert sorted(halves[0].names + halves[1].names) == sorted(load(str(shards), SPEC).names)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a.png": b"", "b.png": b"", "b.cls": b"1"}, r"shard\.tar/a\.png: there is neither \.cls nor \.json"),
        ({"a.png": b"", "a.cls": b" "}, "expected a class's number or name beside it, found ''"),
        ({"a.png": b"", "a.json": b"{"}, r"a\.png: the \.json beside it is damaged"),
        ({**LABELLED, "a.png": b"", "a.json": b'{"class": 3}'}, "a class's number or name beside it, found None"),
        ({"a.png": b"", "a.json": b'{"label": 1.5}'}, "found 1.5"),
        ({**LABELLED, "a.png": b"", "a.json": b"[1]"}, "found None"),
        ({"a.cls": b"3"}, "no images; expected shards with key.jpg beside key.cls"),
    ],
)
def test_a_sample_that_is_wrong_is_named(tmp_path: Path, members: dict[str, bytes], message: str) -> None:
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        for name, content in members.items():
            add_member(tar, name, content)
    with pytest.raises(DataError, match=message):
        load(str(tmp_path), SPEC)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("cat\ndog\n", r"s0\.png: label '10' is none of the 2 in classes\.txt"),
        ("cat\n\ndog\n", "line 2"),
        ("a\na", "line 2"),
    ],
)
def test_class_names_that_do_not_fit(tmp_path: Path, classes: str, message: str) -> None:
    write_shard(tmp_path / "set" / "0.tar", [0])
    (tmp_path / "set" / "classes.txt").write_text(classes)
    with pytest.raises(DataError, match=message):
        load(str(tmp_path / "set"), SPEC)


def test_a_shard_that_is_missing_is_named(shards: Path) -> None:
    with pytest.raises(DataError, match=r"train-002\.tar: not a readable tar"):
        load(str(shards / "train-{000..002}.tar"), SPEC)


def test_a_range_of_folders(tmp_path: Path) -> None:
    for camera in range(2):
        write_shard(tmp_path / f"cam{camera}" / "000.tar", [camera])
    assert len(load(str(tmp_path / "cam{0..1}" / "{000..000}.tar"), SPEC)) == 2


def test_a_range_that_counts_down(shards: Path) -> None:
    with pytest.raises(OodgateError, match=r"\{001\.\.000\} counts down; expected \{000\.\.001\}"):
        load(str(shards / "train-{001..000}.tar"), SPEC)


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_shards_of_one_name_in_several_folders(tmp_path: Path, ending: str) -> None:
    """Each image keeps its own label, and none is lost."""
    for camera, label in (("cam1", "cat"), ("cam2", "dog")):
        (tmp_path / camera).mkdir()
        with tarfile.open(tmp_path / camera / "000.tar", "w") as tar:
            for i in range(3):
                add_member(tar, f"s{i}.cls", label.encode())
                image = encode(IMAGES[i], "JPEG") if camera == "cam1" and ending == "jpg" else encode(IMAGES[i])
                add_member(tar, f"s{i}.{ending if camera == 'cam1' else 'png'}", image)
    found = load(f"{tmp_path}/cam*/000.tar", SPEC)
    assert [found.classes[label] for label in found.labels] == 3 * ["cat"] + 3 * ["dog"]
    assert found.names[0] == f"0~000.tar/s0.{ending}"


def test_masks_beside_a_sample_s_image_are_none(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        for i in range(2):
            add_member(tar, f"s{i}.png", encode(IMAGES[i]))
            add_member(tar, f"s{i}.seg.png", encode(IMAGES[i + 2]))
            add_member(tar, f"s{i}.cls", b"1")
        add_member(tar, "t.rgb.png", encode(IMAGES[5]))  # the only one of its sample
        add_member(tar, "t.cls", b"2")
    found = load(str(tmp_path / "set.tar"), SPEC)
    assert found.names == ("s0.png", "s1.png", "t.rgb.png")
    assert [(one.reason, one.names) for one in found.report.passed] == [
        ("images beside a sample's own, such as masks", ("s0.seg.png", "s1.seg.png"))
    ]
