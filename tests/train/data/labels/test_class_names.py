"""Names of classes: every form that says the same, and what is wrong in each."""

from __future__ import annotations

import codecs
import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from train.data.labels.class_names import of_value, read_class_names, read_rows
from train.data.labels.matching import renamed
from train.exceptions import DataError

NAMES = ("tench, Tinca tinca", "Müller's gull", "007")
JSON = '{"0": "tench, Tinca tinca", "2": "007", "1": "M\\u00fcller\'s gull"}'
PLAIN = "tench, Tinca tinca\nMüller's gull\n007\n"
TABLE = "0,tench, Tinca tinca\n2,007\n1,Müller's gull\n"
FORMS = {
    "lines": PLAIN,
    "a byte order mark": "\ufeff" + PLAIN,
    "Windows": PLAIN.replace("\n", "\r\n"),
    "an old Mac": PLAIN.replace("\n", "\r"),
    "no end of the last line": PLAIN.rstrip(),
    "empty lines at the end": PLAIN + "\n \n",
    "spaces": PLAIN.replace("\n", "  \n "),
    "decomposed": unicodedata.normalize("NFD", PLAIN),
    "id2label": JSON,
    "id2label with a byte order mark": "\ufeff" + JSON,
    "config.json": f'{{"model_type": "vit", "id2label": {JSON}}}',
    "label2id": '{"tench, Tinca tinca": 0, "007": 2, "Müller\'s gull": 1}',
    "list": '["tench, Tinca tinca", "Müller\'s gull", "007"]',
    "class_index": '{"0": ["n1", "tench, Tinca tinca"], "1": ["n2", "Müller\'s gull"], "2": ["n3", "007"]}',
    "Python's": "{0: 'tench, Tinca tinca',\n 1: \"Müller's gull\",\n 2: '007'}",
    "table": TABLE,
    "table with a header": "index,name\n" + TABLE,
    "table of Windows": "\ufeffindex,name\r\n" + TABLE.replace("\n", "\r\n"),
    "table with quotes": '0,"tench, Tinca tinca"\n2,"007"\n1,Müller\'s gull',
    "table with tabs": TABLE.replace(",", "\t", 1).replace("2,", "2\t").replace("1,", "1\t"),
    "numbers before the names": "2 007\n0 tench, Tinca tinca\n1  Müller's gull\n",
    "numbers and colons": "0: tench, Tinca tinca\n1: Müller's gull\n2:007\n",
    "table of three columns": 'id,wnid,name\n0,n1,"tench, Tinca tinca"\n1,n2,Müller\'s gull\n2,n3,007',
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_that_say_the_same(tmp_path: Path, form: str) -> None:
    file = tmp_path / "labels"
    file.write_bytes(FORMS[form].encode())
    assert read_class_names(file) == NAMES


def test_a_table_of_names_and_numbers(tmp_path: Path) -> None:
    (tmp_path / "labels.tsv").write_text("name\tindex\ncat\t1\ndog\t0\n")
    assert read_class_names(tmp_path / "labels.tsv") == ("dog", "cat")


@pytest.mark.parametrize(
    "form",
    [
        "names:\n  0: tench, Tinca tinca\n  2: '007'\n  1: Müller's gull\n",
        "path: ../set  # where\nnames:  # of classes\n- tench, Tinca tinca\n- \"Müller's gull\"  # a bird\n- '007'\nnc: 3\n",
        "# comment\n0: tench, Tinca tinca\n1: Müller's gull\n2: 007\n",
    ],
)
def test_yaml(tmp_path: Path, form: str) -> None:
    (tmp_path / "data.yaml").write_text(form, encoding="utf-8")
    assert read_class_names(tmp_path / "data.yaml") == NAMES


def test_yaml_of_another_form(tmp_path: Path) -> None:
    (tmp_path / "data.yml").write_text("names: [cat, dog]\n")
    with pytest.raises(DataError, match=r"expected lines '0: cat' or '- cat', under 'names:'"):
        read_class_names(tmp_path / "data.yml")


def test_lines_are_ended_by_nothing_but_ends_of_lines(tmp_path: Path) -> None:
    """U+2028 and the like are of the name, as they are for whoever wrote it."""
    (tmp_path / "labels.txt").write_text("a\u2028b\nc\x0bd\n", encoding="utf-8")
    assert read_class_names(tmp_path / "labels.txt") == ("a\u2028b", "c\x0bd")


@pytest.mark.parametrize(
    "names",
    [
        ("2 door car", "4 door car"),
        ("0 cars", "2 cars"),
        ("0 cars", "1 car", "more"),
        ("0 stars", "1 stars", "2 stars"),
        ("0 - zero", "1 - one"),  # as torchvision calls MNIST's
    ],
)
def test_numbers_that_belong_to_the_names(names: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("\n".join(names))
    assert read_class_names(tmp_path / "labels.txt") == names


def test_numbers_as_names(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("1\n0\n")
    assert read_class_names(tmp_path / "labels.txt") == ("1", "0")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (codecs.BOM_UTF16_LE + "cat\ndog\n".encode("utf-16-le"), "expected UTF-8 text, found UTF-16; save it as UTF-8"),
        (codecs.BOM_UTF16_BE + "cat\ndog\n".encode("utf-16-be"), "found UTF-16"),
        ("cat\ndog\n".encode("utf-16-le"), "found UTF-16"),
        ("Müller\n".encode("cp1252"), "expected UTF-8 text"),
        (b"", "found an empty file"),
        (b"\xef\xbb\xbf\r\n \r\n", "found an empty file"),
        (b"cat\n\ndog\n", "line 2: expected a class name, found an empty line"),
        (b"[1, 2", "expected JSON"),
        (b"[]", "expected a list of class names"),
        (b'{"0": "cat", "2": "dog"}', "expected the numbers 0 to 1 for 2 classes, found 0 to 2 without 1"),
        (b'{"1": "cat", "2": "dog"}', "found 1 to 2 without 0"),
        (b'{"0": "cat", "00": "dog"}', "the number 00 is given to two classes"),
        (b'{"n01": "cat", "n02": "dog"}', "expected a number for each class, found 'n01'"),
        (b'{"0": null}', "expected a class name, found None"),
        (b'["cat", true]', "expected a class name, found True"),
        (b"0,cat\n2,dog\n", "without 1"),
        (b"index,name\n0,cat\n1,\n", "expected a class name, found ''"),
        (b"id,a,b\n0,x,y\n", "expected a column 'name'"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "labels").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_class_names(tmp_path / "labels")
    assert str(caught.value).startswith(str(tmp_path / "labels"))
    assert "\n" not in str(caught.value)


def test_a_table_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("cat,big\ndog,small\n")
    with pytest.raises(DataError, match="expected lines 'index,name', found 'dog,small'"):
        read_class_names(tmp_path / "labels.csv")


@pytest.mark.parametrize(
    "value",
    [
        NAMES,
        list(NAMES),
        dict(enumerate(NAMES)),
        {str(i): name for i, name in enumerate(NAMES)},
        {name: i for i, name in enumerate(NAMES)},
    ],
)
def test_what_a_program_gives(value: object, tmp_path: Path) -> None:
    assert of_value("labels", value) == NAMES
    (tmp_path / "labels.json").write_text(json.dumps(value))
    for path in (tmp_path / "labels.json", str(tmp_path / "labels.json")):
        assert of_value("labels", path) == NAMES


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"cat", "dog"}, "expected class names in the order of the logits, .* found set"),
        (3, "found int"),
        ({0: "cat", 2: "dog"}, "without 1"),
        (["cat", None], "expected a class name, found None"),
        ("cat", "cat: No such file"),
    ],
)
def test_what_a_program_can_not_give(value: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        of_value("labels", value)


ROWS = [("n01", "tench"), ("n02", "goldfish", "fish"), ("n03", "fish")]


def test_classes_by_their_plainest_names() -> None:
    assert renamed("names", ("n01", "goldfish"), ROWS) == ("tench", "fish")
    with pytest.raises(DataError, match="names: it names no class 'cat', which the images have"):
        renamed("names", ("n01", "cat"), ROWS)
    with pytest.raises(DataError, match="names: several classes of the images are called 'fish'"):
        renamed("names", ("n02", "n03"), ROWS)


@pytest.mark.parametrize(
    ("content", "classes", "expected"),
    [
        (b"1\n2\n3", ("1", "2"), ("1", "2")),  # names, though there are numbers from 0 too
        (b'{"0": "1", "1": "2", "2": "0"}', ("0", "1", "2"), ("0", "1", "2")),
        (b'["Golden Retriever", "tabby cat"]', ("golden_retriever", "tabby-cat"), ("Golden Retriever", "tabby cat")),
        (b'["tench", "goldfish"]', ("0", "01"), ("tench", "goldfish")),
    ],
)
def test_a_name_goes_before_a_number(content: bytes, classes: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert renamed("names", classes, read_rows("names", content)) == expected


def test_numbers_of_numpy() -> None:
    assert of_value("labels", np.arange(3)) == ("0", "1", "2")
    assert of_value("labels", np.array([0.0, 1.5])) == ("0.0", "1.5")
    assert of_value("labels", {"b": np.int64(1), "a": np.int64(0)}) == ("a", "b")
    assert of_value("labels", {np.int64(1): "b", np.int64(0): "a"}) == ("a", "b")
    with pytest.raises(DataError, match="labels: of numbers alone nobody can tell which are the names"):
        of_value("labels", {0: 2, 1: 0, 2: 1})


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: No such file"):
        read_class_names(tmp_path / "nowhere")
