"""The tar is a data source of the project's own training."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from serving.exceptions import StoreUnusable
from serving.rejects.archive import export
from serving.rejects.files import LocalFiles
from serving.rejects.store import RejectStore
from tests.small import SPEC, calibration_images, encode

IMAGES = [encode(image, "PNG") for image in calibration_images(3)]


@pytest.fixture
def store(tmp_path: Path) -> RejectStore:
    store = RejectStore(LocalFiles(tmp_path / "store"))
    for image, label in zip(IMAGES, ("cat", "dog", "cat"), strict=True):
        store.save(image, {}, label, "r")
    return store


def members(out: Path) -> dict[str, bytes]:
    with tarfile.open(out) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def test_unlabelled(store: RejectStore, tmp_path: Path) -> None:
    out = tmp_path / "out.tar"
    assert export(store, out) == 3
    found = members(out)
    assert {name.partition("/")[0] for name in found} == {"unlabelled"}
    assert sorted(found.values()) == sorted(IMAGES)
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ""] == ["out.tar"]


def test_by_prediction_and_into_training(store: RejectStore, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from train import data

    out = tmp_path / "out.tar"
    export(store, out, by_prediction=True)
    loaded = data.load(str(out), SPEC)
    assert loaded.classes == ("cat", "dog")
    assert sorted(loaded.labels.tolist()) == [0, 0, 1]


@pytest.mark.parametrize(
    ("label", "folder"),
    [
        ("a/b", "a_b"),
        ("../x", "_x"),
        ("..", "unlabelled"),
        ("", "unlabelled"),
        ("Äpfel 2", "Äpfel 2"),
        ("a\0b", "a_b"),
        ("tench, Tinca tinca", "tench, Tinca tinca"),
        ("jack-o'-lantern", "jack-o'-lantern"),
    ],
)
def test_a_label_can_t_leave_its_folder(label: str, folder: str, tmp_path: Path) -> None:
    store = RejectStore(LocalFiles(tmp_path / "store"))
    reject = store.save(IMAGES[0], {}, label, "r")
    export(store, tmp_path / "out.tar", by_prediction=True)
    assert list(members(tmp_path / "out.tar")) == [f"{folder}/{reject.image}"]


def test_an_image_that_was_deleted_meanwhile_is_left_out(store: RejectStore, tmp_path: Path) -> None:
    first = next(iter(store))
    next((tmp_path / "store").rglob(first.image)).unlink()
    assert export(store, tmp_path / "out.tar") == 2


def test_nothing_to_export_keeps_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "out.tar").write_bytes(b"old")
    with pytest.raises(StoreUnusable, match="holds no rejected images"):
        export(RejectStore(LocalFiles(tmp_path / "none")), tmp_path / "out.tar")
    assert (tmp_path / "out.tar").read_bytes() == b"old"


def test_nowhere_to_write(store: RejectStore, tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match="can't be exported to"):
        export(store, tmp_path / "no" / "out.tar")
