"""Parquet files, as datasets writes them and as others do; and what is said where pyarrow is not installed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.small import encode
from tests.train.sets import SPEC, noise
from train.data import ImageSet, LazyImages, Reading, load, read
from train.data.kinds import parquet
from train.exceptions import DataError

IMAGES = noise(12)
BYTES = [encode(image) for image in IMAGES]
NUMBERS = [2, 0, 1] * 4
NAMES = ["zebra", "ant", "bee"]  # in no order of their own


def test_without_pyarrow_its_name_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "set.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"set\.parquet: reading Parquet needs pyarrow: pip install pyarrow"):
        load(str(tmp_path / "set.parquet"), SPEC)


def write(path: Path, columns: dict[str, Any], names: list[str] | None = None, rows: int = 5) -> Path:
    """In row groups of `rows`, with the metadata of a ClassLabel of these names."""
    pa = pytest.importorskip("pyarrow")
    path.parent.mkdir(exist_ok=True)
    table = pa.table(columns)
    if names:
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pytest.importorskip("pyarrow.parquet").write_table(table, path, row_group_size=rows)
    return path


def records(contents: list[bytes] = BYTES) -> list[dict[str, Any]]:
    return [{"bytes": content, "path": f"{i}.png"} for i, content in enumerate(contents)]


def check(found: ImageSet, names: list[str] = NAMES) -> None:
    np.testing.assert_array_equal(found.images[:], IMAGES)
    assert [found.classes[i] for i in found.labels] == [names[number] for number in NUMBERS]


@pytest.mark.parametrize("in_memory", [True, False])
def test_as_datasets_writes_them(tmp_path: Path, in_memory: bool, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "set.parquet", {"image": records(), "label": NUMBERS}, NAMES)
    found = load(str(path), SPEC, in_memory=in_memory)
    assert isinstance(found.images, LazyImages) != in_memory
    check(found)
    assert found.classes == tuple(NAMES)
    order = np.random.default_rng(0).permutation(12)
    np.testing.assert_array_equal(found.images[order], IMAGES[order])
    read(str(path), SPEC)
    assert (
        "12 images in 3 classes, images = column 'image', labels = column 'label' (a guess" in capsys.readouterr().out
    )


def test_no_more_than_two_row_groups_are_held(tmp_path: Path) -> None:
    path = write(tmp_path / "set.parquet", {"image": records()}, rows=2)
    index = parquet.index(path, Reading(), 0)
    assert [file.read() for file in index.files] == BYTES
    (groups,) = {file.groups for file in index.files if isinstance(file, parquet.Cell)}
    assert list(groups._held) == [(str(path), 4), (str(path), 5)]


@pytest.mark.parametrize("form", ["", "train-*.parquet", "train-{00000..00001}.parquet"])
def test_shards(tmp_path: Path, form: str) -> None:
    for shard in range(2):
        part = slice(6 * shard, 6 * shard + 6)
        write(tmp_path / f"train-{shard:05}.parquet", {"image": records(BYTES[part]), "label": NUMBERS[part]}, NAMES)
    check(load(str(tmp_path / form), SPEC))


def test_shards_of_several_splits(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write(tmp_path / "data" / f"{split}-00000-of-00001.parquet", {"image": records()})
    found = load(str(tmp_path), SPEC)
    assert len(found) == 24
    assert found.report.remarks == (
        "test and train are splits, and all of them are read; 'test-*.parquet' is one of them",
    )


def test_a_column_of_splits(tmp_path: Path) -> None:
    columns = {"image": records(), "label": NUMBERS, "split": ["train"] * 8 + ["test"] * 4}
    found = load(str(write(tmp_path / "set.parquet", columns, NAMES)), SPEC)
    assert found.report.remarks == ("column 'split' (test 4, train 8) is not looked at: rows of all of them are read",)


def test_halves(tmp_path: Path) -> None:
    path = write(tmp_path / "set.parquet", {"image": records(), "label": NUMBERS}, NAMES)
    halves = [load(f"{path}@{i}/2", SPEC) for i in (1, 2)]
    assert [np.bincount(half.labels).tolist() for half in halves] == [[2, 2, 2]] * 2
    assert not {*halves[0].names} & {*halves[1].names}


@pytest.mark.parametrize("label", ["label", "fine_label"])
def test_bytes_and_texts(tmp_path: Path, label: str) -> None:
    texts = [NAMES[number] for number in NUMBERS]
    check(load(str(write(tmp_path / "set.parquet", {"content": BYTES, label: texts})), SPEC))


def test_paths(tmp_path: Path) -> None:
    for i, content in enumerate(BYTES):
        (tmp_path / f"{i}.png").write_bytes(content)
    names = [f"{i}.png" for i in range(12)]
    for column in (names, [{"bytes": None, "path": name} for name in names]):
        write(tmp_path / "set.parquet", {"image": column, "label": NUMBERS}, NAMES)
        check(load(str(tmp_path / "set.parquet"), SPEC))


def test_numbers_without_names_are_matched_as_indices(tmp_path: Path) -> None:
    found = load(str(write(tmp_path / "set.parquet", {"image": BYTES, "label": NUMBERS})), SPEC, labels=NAMES)
    check(found)


def test_names_in_another_order_than_the_models(tmp_path: Path) -> None:
    path = write(tmp_path / "set.parquet", {"image": BYTES, "label": NUMBERS}, NAMES)
    check(load(str(path), SPEC, labels=("Ant", "BEE", "cow", "zebra")), ["zebra", "Ant", "BEE"])


def test_lists_are_several_labels(tmp_path: Path) -> None:
    path = write(tmp_path / "set.parquet", {"image": BYTES[:3], "labels": [["a", "b"], [], ["b"]]})
    assert load(str(path), SPEC).labels.tolist() == [[True, True], [False, False], [False, True]]


@pytest.mark.parametrize("labels", [[-1] * 12, [None] * 12, [-1, *NUMBERS[1:]], None])
def test_without_labels(tmp_path: Path, labels: list[int | None] | None) -> None:
    """A test split of the hub has -1."""
    columns = {"image": BYTES} if labels is None else {"image": BYTES, "label": labels}
    found = load(str(write(tmp_path / "set.parquet", columns, NAMES)), SPEC)
    assert (len(found), found.labelled) == (12, False)


def test_cells_without_an_image_are_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "set.parquet", {"image": [*BYTES, *BYTES, None]})
    assert load(str(path), SPEC).skipped == ("set.parquet/24",)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"width": [1, 2]}, "no column of images among width; name it by --path-column"),
        ({"image": BYTES[:2], "label": [0, 7]}, "label 7 is none of the 3 names"),
        ({"image": [], "label": []}, "no images; its Parquet files have no rows"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(str(write(tmp_path / "set.parquet", columns, NAMES)), SPEC)


def test_a_row_group_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_LARGEST", 1000)
    with pytest.raises(DataError, match=r"row group of .* write it again with row_group_size=100"):
        load(str(write(tmp_path / "set.parquet", {"image": BYTES})), SPEC)


def test_a_file_that_is_no_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "set.parquet").write_bytes(b"text")
    with pytest.raises(DataError, match=r"set\.parquet: not a readable Parquet file"):
        load(str(tmp_path / "set.parquet"), SPEC)
