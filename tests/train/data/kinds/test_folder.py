"""Folders as they are found on disks: links, hidden files, odd names, and what is said of all that is left out."""

from __future__ import annotations

import os
import tarfile
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from tests.small import encode
from tests.train.sets import CLASSES, SPEC, check_equal, colours, noise, write_folder, write_tar
from train.data import load, read
from train.exceptions import DataError

DATA = colours(12)
PNG = encode(noise(1)[0])


def put(path: Path, content: bytes = PNG) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_linked_folders_and_files_are_followed(tmp_path: Path) -> None:
    """As a set is put together from another: half of its classes are links."""
    whole = write_folder(tmp_path / "whole", DATA)
    (tmp_path / "set" / "red").mkdir(parents=True)
    for name in ("blue", "green"):
        (tmp_path / "set" / name).symlink_to(whole / name)
    for file in (whole / "red").iterdir():
        (tmp_path / "set" / "red" / file.name).symlink_to(file)
    check_equal(load(str(tmp_path / "set"), SPEC), DATA)
    (tmp_path / "link").symlink_to(tmp_path / "set")
    check_equal(load(str(tmp_path / "link"), SPEC), DATA)


def test_links_in_circles_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(tmp_path / "set", DATA)
    (tmp_path / "set" / "blue" / "all").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "here").symlink_to(".", target_is_directory=True)
    check_equal(read(str(tmp_path / "set"), SPEC), DATA)
    assert "2 links to nowhere (blue/all, here)" in capsys.readouterr().out


def test_one_folder_under_two_names_is_two_classes(tmp_path: Path) -> None:
    put(tmp_path / "set" / "cat" / "1.png")
    (tmp_path / "set" / "kitten").symlink_to("cat")
    assert load(str(tmp_path / "set"), SPEC).names == ("cat/1.png", "kitten/1.png")


def test_what_systems_leave_behind_is_no_image_and_no_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(tmp_path, DATA)
    for name in (
        ".ipynb_checkpoints/1.png", "blue/.ipynb_checkpoints/0000-checkpoint.png", "blue/._0000.png", "._blue/1.png",
        "__MACOSX/blue/._0000.png", "__MACOSX/cat/1.png", ".hidden/2.png", "@eaDir/0000.png/1.jpg", ".DS_Store",
        "green/Thumbs.db", "desktop.ini",
    ):  # fmt: skip
        put(tmp_path / name)
    check_equal(read(str(tmp_path), SPEC), DATA)
    found = capsys.readouterr().out
    assert "skipped 10 files: 10 hidden (.DS_Store, ._blue, .hidden and 7 more)" in found


def test_endings_of_all_kinds(tmp_path: Path) -> None:
    names = ["1.JPG", "2.jfif", "3.jpe", "4.webp", "5", "6.1", "7.jpg?w=200", "8.tar.png", "9 copy.PNG", "0.Jpeg"]
    for name in names:
        put(tmp_path / "cat" / name)
    assert load(str(tmp_path), SPEC).names == tuple(f"cat/{name}" for name in sorted(names))


def test_other_files_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(tmp_path, colours(20))
    for name, content in (("notes.txt", b"x"), ("LICENSE", b"x"), ("blue/empty", b""), ("green/0.png", b"no image")):
        put(tmp_path / name, content)
    read(str(tmp_path), SPEC)
    assert capsys.readouterr().out == (
        f"{tmp_path}: 20 images in 3 classes, labels = innermost folder; skipped 4 files: 3 not images (LICENSE, blue/empty, "
        "notes.txt), 1 unreadable (green/0.png: the bytes are not an image of an accepted format)\n"
    )


def test_photographs_of_telephones_say_what_they_need(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.folder.SUFFIXES", {".png"})
    put(tmp_path / "cat" / "1.png")
    put(tmp_path / "cat" / "2.HEIC", b"x")
    read(str(tmp_path), SPEC)
    assert "1 HEIF or AVIF, which pip install 'oodgate[heif]' reads (cat/2.HEIC)" in capsys.readouterr().out


def test_empty_folders_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(tmp_path, DATA)
    (tmp_path / "pink" / "deep").mkdir(parents=True)
    put(tmp_path / "grey" / "notes.txt", b"x")
    read(str(tmp_path), SPEC)
    assert "\n  2 folders without images (grey, pink)\n" in capsys.readouterr().out


def test_splits_are_no_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split in ("train", "Val"):
        write_folder(tmp_path / split, DATA)
    found = read(str(tmp_path), SPEC)
    assert found.classes == CLASSES
    assert len(found) == 24
    assert "Val/, train/ at the top are splits, not classes, and all of them are read" in capsys.readouterr().out


def test_splits_without_classes_have_none(tmp_path: Path) -> None:
    for split in ("train", "test"):
        put(tmp_path / "photos" / split / "1.png")
    assert load(str(tmp_path / "photos"), SPEC).classes == ("photos",)


def test_a_class_called_train_is_one(tmp_path: Path) -> None:
    for name in ("train", "car"):
        put(tmp_path / name / "1.png")
    assert load(str(tmp_path), SPEC).classes == ("car", "train")


@pytest.mark.parametrize("inner", [("images",), ("train", "test")])
def test_the_folder_that_every_class_has_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], inner: tuple[str, ...]
) -> None:
    """Tiny-ImageNet's n01443537/images, MVTec's bottle/train."""
    for name in ("n1", "n2"):
        for own in inner:
            put(tmp_path / name / own / "1.png")
    assert read(str(tmp_path), SPEC).classes == ("n1", "n2")
    assert "labels = the folder above " in capsys.readouterr().out


def test_names_of_macos(tmp_path: Path) -> None:
    """Decomposed on disk, composed among a model's labels; the parts of a set are those of its tar from elsewhere."""
    for form in ("NFC", "NFD"):
        put(tmp_path / form / unicodedata.normalize(form, "Käfer") / unicodedata.normalize(form, "ü 1.png"))
        put(tmp_path / form / "a b" / "c d.png")
    composed, decomposed = (load(str(tmp_path / form), SPEC, labels=("Käfer", "a b")) for form in ("NFC", "NFD"))
    assert decomposed.names == composed.names == ("Käfer/ü 1.png", "a b/c d.png")
    assert decomposed.labels.tolist() == [0, 1]
    assert len(decomposed.images) == 2


def test_names_that_differ_in_form_alone_are_two_files(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        put(tmp_path / "cat" / unicodedata.normalize(form, "ü.png"))
    assert len(load(str(tmp_path), SPEC)) == 2


def test_names_that_are_no_text(tmp_path: Path) -> None:
    put(Path(os.fsdecode(os.fsencode(tmp_path) + b"/c\xff/\xfe.png")))
    assert len(load(str(tmp_path), SPEC)) == 1


def test_one_name_in_two_classes(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        put(tmp_path / name / "1.png")
    assert load(str(tmp_path), SPEC).names == ("cat/1.png", "dog/1.png")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    put(tmp_path / "cat" / "1.png")
    os.mkfifo(tmp_path / "cat" / "2.png")
    assert load(str(tmp_path), SPEC).names == ("cat/1.png",)


def test_a_flat_folder_needs_no_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i, image in enumerate(noise(4)):
        put(tmp_path / "photos" / f"{i}.png", encode(image))
    found = read(str(tmp_path / "photos"), SPEC, labels=("cat", "dog"))
    np.testing.assert_array_equal(found.images, noise(4))
    assert found.with_labels_of(("cat", "dog"), "photos") is None
    assert capsys.readouterr().out.endswith("photos: 4 images, no labels\n")


def test_a_flat_folder_of_the_name_of_a_class_is_of_that_class(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "Dog" / "1.png")
    found = read(str(tmp_path / "Dog"), SPEC, labels=("cat", "dog"))
    np.testing.assert_array_equal(found.labels, [1])
    assert "labels = the name of the source, as there is no folder in it" in capsys.readouterr().out


def test_a_class_index_at_the_root_names_the_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("n02", "n01"):
        put(tmp_path / name / "1.png")
    put(tmp_path / "imagenet_class_index.json", b'{"0": ["n01", "cat"], "1": ["n02", "dog"]}')
    found = read(str(tmp_path), SPEC, labels=("dog", "cat"))
    assert (found.names, found.labels.tolist()) == (("n01/1.png", "n02/1.png"), [1, 0])
    assert "matched to the model's labels by what a file calls them: n01 is cat, n02 is dog" in capsys.readouterr().out


def test_a_folder_of_what_datasets_keeps(tmp_path: Path) -> None:
    put(tmp_path / "data-00000-of-00001.arrow", b"x")
    with pytest.raises(DataError, match="write it as Parquet"):
        load(str(tmp_path), SPEC)


def test_images_beside_the_folder_that_classes_have_inside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("cat/images/1.png", "dog/images/1.png", "owl/images/1.png", "owl/cover.png"):
        file = tmp_path / "set" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode(noise(1)[0]))
    found = read(str(tmp_path / "set"), SPEC)
    assert found.classes == ("cat", "dog", "owl")
    assert [found.classes[label] for label in found.labels] == ["cat", "dog", "owl", "owl"]
    assert "1 images lie beside images/, not in it" in capsys.readouterr().out


def test_splits_below_a_folder_of_their_own_are_no_classes(tmp_path: Path) -> None:
    """As in a tar that was made of the folder of a set."""
    folder = tmp_path / "set"
    for split in ("train", "test"):
        (folder / split).mkdir(parents=True)
        (folder / split / f"{split}.png").write_bytes(encode(noise(1)[0]))
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        tar.add(folder, "set")
    for source in (folder, tmp_path / "set.tar"):
        assert load(str(source), SPEC).classes == ("set",)
        assert not read(str(source), SPEC, labels=("cat", "dog")).labelled


def test_a_linked_folder_has_its_links_in_a_tar_too(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    for name in ("a/1.png", "c/2.png"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(encode(noise(1)[0]))
    (folder / "a" / "2.png").symlink_to("../c/2.png")
    (folder / "b").symlink_to("a")
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        tar.add(folder, ".")
    expected = ("a/1.png", "a/2.png", "b/1.png", "b/2.png", "c/2.png")
    for source in (folder, tmp_path / "set.tar"):
        assert load(str(source), SPEC).names == expected


def test_images_of_a_list_may_have_a_tar_beside_them(tmp_path: Path) -> None:
    write_tar(tmp_path / "raw.tar", colours(3))
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(encode(noise(1)[0]))
    (tmp_path / "labels.csv").write_text("name,labels\na.png,cat\nb.png,cat;dog\n")
    assert load(str(tmp_path), SPEC).labels.tolist() == [[True, False], [True, True]]


def test_images_and_tars_side_by_side_are_one_or_the_other(tmp_path: Path) -> None:
    write_tar(tmp_path / "000.tar", colours(3))
    (tmp_path / "preview.png").write_bytes(encode(noise(1)[0]))
    with pytest.raises(
        DataError,
        match=r"both images, such as preview\.png, and tars, such as 000\.tar; name those .*/\*\.png' for the",
    ):
        load(str(tmp_path), SPEC)
