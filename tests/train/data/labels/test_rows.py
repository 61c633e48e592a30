"""Tables of images: whatever their columns are called and separated by, and every line that can be wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.small import encode
from tests.train.sets import SPEC, noise
from train.data import ImageSet, Reading, load, read
from train.exceptions import DataError

NAMES = ("a/1.png", "b 2.png", "c,3.png")
LABELS = ("cat", "sea lion", "cat")
ROWS = 'a/1.png,cat\nb 2.png,sea lion\n"c,3.png",cat\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a").mkdir()
    for name, image in zip(NAMES, noise(3), strict=True):
        (tmp_path / name).write_bytes(encode(image))
    return tmp_path


def table(folder: Path, text: str | bytes, name: str = "set.csv") -> str:
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return str(folder / name)


def check(found: ImageSet, labelled: bool = True) -> None:
    assert found.names == NAMES
    np.testing.assert_array_equal(found.images, noise(3))
    assert found.labelled == labelled
    if labelled:
        assert tuple(found.classes[i] for i in found.labels) == LABELS


@pytest.mark.parametrize(
    "path", ["path", "file", "filename", "file_name", "Image", "img", "filepath", "image_path", "Image Path", "id"]
)
@pytest.mark.parametrize("label", ["label", "labels", "class", "Category", "target", "class_name"])
def test_usual_headers(folder: Path, path: str, label: str) -> None:
    if (path, label) != ("file", "labels"):  # ours: any number of labels
        check(load(table(folder, f"{path},{label}\n{ROWS}"), SPEC))


@pytest.mark.parametrize(
    "text",
    [
        "image,label\r\n" + ROWS.replace("\n", "\r\n") + "\r\n\r\n",
        "\ufeffimage,label\n" + ROWS,
        ROWS,
        'label,image\ncat,a/1.png\nsea lion,b 2.png\ncat,"c,3.png"\n',
        "image;label\na/1.png;cat\nb 2.png;sea lion\nc,3.png;cat\n",
        "image\tlabel\na/1.png\tcat\nb 2.png\tsea lion\nc,3.png\tcat",
        "image|label\na/1.png|cat\nb 2.png|sea lion\nc,3.png|cat",
        ',image,width,label\n0,a/1.png,8,cat\n1,b 2.png,8,sea lion\n2,"c,3.png",8,cat\n',
        'image , label\n a/1.png ,  cat \n b 2.png, sea lion \n"c,3.png",cat\n',
        'image,label\na\\1.png,cat\nb 2.png,sea lion\n"c,3.png",cat\n'.replace("a\\1.png", "a/1.png"),
    ],
    ids=[
        "Windows",
        "byte order mark",
        "no header",
        "other order",
        "semicolons",
        "tabs",
        "bars",
        "pandas",
        "spaces",
        "plain",
    ],
)
def test_ways_to_write_the_same(folder: Path, text: str) -> None:
    check(load(table(folder, text), SPEC))


def test_lines_of_a_path_and_a_number(folder: Path) -> None:
    found = load(table(folder, "a/1.png 0\nb 2.png 10\nc,3.png 0\n", "val.txt"), SPEC)
    assert (found.names, found.classes, found.labels.tolist()) == (NAMES, ("0", "10"), [0, 1, 0])


def test_lines_of_paths(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check(read(table(folder, "\n".join(f'"{name}"' for name in NAMES), "list.txt"), SPEC), labelled=False)
    assert "3 images, images = column 'path', no labels" in capsys.readouterr().out


def test_paths_from_the_root(folder: Path) -> None:
    lines = [f'"{folder / name}",{label}' for name, label in zip(NAMES, LABELS, strict=True)]
    found = load(table(folder, "path,label\n" + "\n".join(lines)), SPEC)
    np.testing.assert_array_equal(found.images, noise(3))


def test_names_without_endings(folder: Path) -> None:
    assert load(table(folder, "id,breed\na/1,pug\nb 2,pug\n"), SPEC).classes == ("pug",)


def test_columns_that_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = 'path,picture,label,kind\nx,a/1.png,1,cat\nx,b 2.png,2,sea lion\nx,"c,3.png",1,cat\n'
    check(read(table(folder, text), SPEC, reading=Reading(path_column="picture", label_column="KIND")))
    assert "images = column 'picture', labels = column 'kind'\n" in capsys.readouterr().out


def test_guesses_are_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The column of images is one whose first cell is an image."""
    read(table(folder, 'path,picture,label,kind\nx,a/1.png,cat,1\nx,b 2.png,dog,2\nx,"c,3.png",cat,1\n'), SPEC)
    found = capsys.readouterr().out
    assert "images = column 'picture', labels = column 'label' (a guess: --path-column and --label-column say" in found


def test_numbers_that_a_library_wrote_as_floats(folder: Path) -> None:
    assert load(table(folder, "image,label\na/1.png,3.0\nb 2.png,10.0\n"), SPEC).classes == ("3", "10")


@pytest.mark.parametrize("mark", [";", "|"])
def test_several_labels(folder: Path, mark: str) -> None:
    found = load(table(folder, f'image,tags\na/1.png,cat{mark}dog\nb 2.png,\n"c,3.png",dog\n'), SPEC)
    assert (found.task, found.classes) == ("multilabel", ("cat", "dog"))
    assert found.labels.tolist() == [[True, True], [False, False], [False, True]]


def test_our_own_form(folder: Path) -> None:
    found = load(table(folder, "file,labels\na/1.png,cat\nb 2.png,\n"), SPEC)
    assert (found.task, found.labels.tolist()) == ("multilabel", [[True], [False]])


def test_rows_without_a_label(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check(read(table(folder, 'image,label\na/1.png,cat\nb 2.png,\n"c,3.png",cat\n'), SPEC), labelled=False)
    assert "taken as unlabelled, as 1 images have no label: b 2.png" in capsys.readouterr().out


def test_rows_twice(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check(read(table(folder, f"image,label\n{ROWS}{ROWS}"), SPEC))
    assert "\n  3 lines repeat another\n" in capsys.readouterr().out


@pytest.mark.parametrize(("split", "said"), [("val", "(train 2, val 1) is not looked at"), ("train", None)])
def test_a_column_of_splits(folder: Path, capsys: pytest.CaptureFixture[str], split: str, said: str | None) -> None:
    rows = f'image,label,Split\na/1.png,cat,train\nb 2.png,dog,train\n"c,3.png",cat,{split}\n'
    assert len(read(table(folder, rows), SPEC)) == 3
    output = capsys.readouterr().out
    assert f"column 'Split' {said}: rows of all of them are read" in output if said else "Split" not in output


def test_some_that_are_not_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = f"image,label\n{ROWS}" + "".join(f"x{i}.png,cat\n" for i in range(4))
    check(read(table(folder, text), SPEC))
    assert "skipped 4 files: 4 listed but not there (x0.png, x1.png, x2.png and 1 more)" in capsys.readouterr().out
    with pytest.raises(DataError, match=r"3 of its 7 images are there, .* not x0\.png, x1\.png, x2\.png and 1 more"):
        load(table(folder, text), SPEC, reading=Reading(strict=True))


def test_halves(folder: Path) -> None:
    whole = table(folder, f"image,label\n{ROWS}")
    halves = [load(f"{whole}@{i}/2", SPEC) for i in (1, 2)]
    assert sorted(halves[0].names + halves[1].names) == sorted(NAMES)
    assert all("cat" in {half.classes[i] for i in half.labels} for half in halves)


def test_a_labels_csv_of_another_kind(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table(folder, "filename,label\na/1.png,cat\nb 2.png,dog\n", "labels.csv")
    found = read(str(folder), SPEC)
    assert (found.names, found.classes) == (("a/1.png", "b 2.png"), ("cat", "dog"))
    assert "skipped 1 file: 1 not listed (c,3.png)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "image,label\nx.png,cat\ny.png,cat\n",
            r"none of its 2 images are there, by column 'image'; not x\.png, y\.png",
        ),
        ("width,height\n1,2\n", "no column of images among width, height; name it by --path-column"),
        (f"image,label\n{ROWS}a/1.png,dog\n", r"line 5: a/1\.png is 'dog', and 'cat' in line 2; an image has one line"),
        ("image,label\na/1.png,cat\n./a//1.png,dog\n", r"line 3: a/1\.png is 'dog', and 'cat' in line 2"),
        ("image,label\na/1.png,cat,x\n", "line 2: expected 2 cells as in the first line, found 3"),
        ("image,image\na/1.png,b 2.png\n", "expected columns of different names"),
        ("", "expected a line an image, found an empty file"),
        (b"image,label\na/1.png,\xff\n", "expected UTF-8 text"),
        ("image,label\n".encode("utf-16"), "found UTF-16; save it as UTF-8"),
        ('image,label\n"a/1.png,cat\n', "unexpected end of data"),
        ("http://x/1.png,cat\nhttp://x/2.png,cat\n", "none of its 2 images are there"),
    ],
)
def test_what_is_wrong_is_said(folder: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=rf"set\.csv.*{message}"):
        load(table(folder, text), SPEC)


@pytest.mark.parametrize("option", ["path_column", "label_column"])
def test_a_column_that_is_not_there(folder: Path, option: str) -> None:
    with pytest.raises(DataError, match=f"--{option.replace('_', '-')} size: expected one of its columns"):
        load(table(folder, f"image,label\n{ROWS}"), SPEC, reading=Reading(**{option: "size"}))


# --- OpenOOD's lists


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Images of two folders, numbered the other way round than their names sort; the list names one more."""
    lines = []
    for i, image in enumerate(noise(6)):
        number, name = i % 2, ("sea lion", "cat")[i % 2]
        file = tmp_path / "images_classic" / "set" / "test" / name / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode(image))
        lines.append(f"set/test/{name}/{i}.png {number}")
    (tmp_path / "images_largescale").mkdir()
    (tmp_path / "benchmark_imglist" / "set").mkdir(parents=True)
    (tmp_path / "benchmark_imglist" / "set" / "test_set.txt").write_text(
        "\n".join([*lines, "set/test/cat/9.png 1"]) + "\n"
    )
    return tmp_path


def test_openood_lists_name_images_in_folders_of_their_own(root: Path) -> None:
    found = load(str(root / "benchmark_imglist" / "set" / "test_set.txt"), SPEC)
    np.testing.assert_array_equal(found.images, noise(6))
    assert found.labels.tolist() == [0, 1] * 3
    assert [str(passed) for passed in found.report.passed] == ["1 listed but not there (set/test/cat/9.png)"]


@pytest.mark.parametrize(("labels", "expected"), [(("cat", "sea_lion"), [1, 0]), (("first", "second"), [0, 1])])
def test_numbers_are_what_their_folders_are_called(root: Path, labels: tuple[str, str], expected: list[int]) -> None:
    found = load(str(root / "benchmark_imglist" / "set" / "test_set.txt"), SPEC, labels=labels)
    assert found.classes == labels
    assert found.labels.tolist() == expected * 3


def test_folders_that_do_not_tell_the_classes_apart_name_none(root: Path) -> None:
    file = root / "benchmark_imglist" / "set" / "test_set.txt"
    file.write_text(file.read_text().replace("0.png 0", "0.png 1"))
    assert load(str(file), SPEC, labels=("cat", "sea_lion")).labels.tolist() == [1, 1, 0, 1, 0, 1]


def test_a_list_from_its_own_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root / "benchmark_imglist" / "set")
    assert len(load("test_set.txt", SPEC)) == 6


def test_names_without_endings_of_files_in_capitals(tmp_path: Path) -> None:
    for name in ("A.JPG", "b.tiff"):
        (tmp_path / name).write_bytes(encode(noise(1)[0]))
    found = load(table(tmp_path, "id,label\nA,cat\nb,dog\n"), SPEC)
    assert [found.classes[label] for label in found.labels] == ["cat", "dog"]


@pytest.mark.parametrize("order", [1, -1])
def test_a_label_that_is_called_as_columns_are(tmp_path: Path, order: int) -> None:
    lines = ["0.png,photo", "1.png,cat", "2.png,cat"][::order]
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(encode(noise(1)[0]))
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    found = load(str(tmp_path), SPEC)
    assert (found.task, found.classes) == ("multilabel", ("cat", "photo"))


def test_labels_as_python_writes_lists(folder: Path) -> None:
    rows = "image,labels\na/1.png,\"['cat', 'sea lion']\"\nb 2.png,['cat']\n\"c,3.png\",[]\n"
    with pytest.raises(DataError, match=r"a/1\.png: .*is a list as Python writes it; expected label;label"):
        load(table(folder, rows), SPEC)
