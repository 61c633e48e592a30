"""Which labels of a model the classes of a source are: never a guess, and never silently none."""

from __future__ import annotations

import unicodedata

import pytest

from train.data.labels.class_names import Row
from train.data.labels.matching import resolve

IMAGENET = ("tench, Tinca tinca", "goldfish, Carassius auratus", "crane", "crane, machine", "maillot", "night snake")
SYNONYMS: tuple[Row, ...] = (("0", "n01440764", "tench"), ("1", "n01443537", "goldfish"), ("7", "n99", "night_snake"))


@pytest.mark.parametrize(
    ("classes", "labels", "indices"),
    [
        (("dog", "cat"), ("cat", "dog"), (1, 0)),
        (("Cat", "SEA_LION", "polar-bear"), ("polar bear", "cat", "sea lion"), (1, 2, 0)),
        ((unicodedata.normalize("NFD", "Müller"),), ("a", "Müller"), (1,)),
        (("Müller",), ("a", unicodedata.normalize("NFD", "MÜLLER")), (1,)),
        (("cat",), ("Cat", "CAT", "cat"), (2,)),
        (("cAt",), ("Cat", "CAT"), (None,)),
        (("tench", "Tinca tinca", "Night snake"), IMAGENET, (0, 0, 5)),
        (("crane", "maillot", "machine"), IMAGENET, (2, 4, 3)),
        (("n01440764", "n01443537", "n99"), ("x", "n01443537 goldfish", "n01440764 tench, Tinca"), (2, 1, None)),
        (("001.Black_footed_Albatross", "n02085620-Chihuahua"), ("chihuahua", "black footed albatross"), (1, 0)),
        (("albatross", "7 up"), ("001.Albatross", "up", "7-up"), (0, 2)),
        (("1.cat",), ("2.cat", "3.cat"), (None,)),
        (("2-wheeler",), ("3-wheeler", "car"), (None,)),
        (("5 Series", "03. Series"), ("3 Series", "x"), (None, 0)),
        (("0", "2", "1"), ("cat", "dog", "ship"), (0, 2, 1)),
        (("00", "02"), ("cat", "dog", "ship"), (0, 2)),
        (("1", "2"), ("cat", "dog", "ship"), (None, None)),
        (("1", "2", "3"), ("cat", "dog", "ship"), (None, None, None)),
        (("0", "3"), ("cat", "dog", "ship"), (None, None)),
        (("0",), ("cat", "dog"), (None,)),
        (("0", "00"), ("cat", "dog"), (None, None)),
        (("0", "1"), ("1", "0"), (1, 0)),
        (("0", "cat"), ("dog", "cat"), (None, 1)),
        (("0", "2"), ("1", "2", "3"), (None, 1)),
    ],
)
def test_classes(classes: tuple[str, ...], labels: tuple[str, ...], indices: tuple[int | None, ...]) -> None:
    assert resolve(classes, labels).indices == indices


@pytest.mark.parametrize(
    ("classes", "indices"),
    [
        (("n01440764", "n01443537", "n99"), (0, 1, 5)),
        (("N01440764",), (0,)),
        (("0", "1", "7"), (0, 1, 5)),
        (("000", "0007"), (0, 5)),
        (("n98",), (None,)),
    ],
)
def test_classes_that_a_file_names(classes: tuple[str, ...], indices: tuple[int | None, ...]) -> None:
    """A number is the file's: what it names, not the model's index."""
    assert resolve(classes, IMAGENET, SYNONYMS).indices == indices


def test_lines_of_a_synset_file() -> None:
    lines = (("0", "n01440764 tench, Tinca tinca"), ("1", "n00000002 night snake, Hypsiglena torquata"))
    assert resolve(("n00000002", "n01440764"), IMAGENET, lines).indices == (5, 0)


def test_a_file_that_says_two_things() -> None:
    assert resolve(("n1",), IMAGENET, (("n1", "tench"), ("n1", "goldfish"))).indices == (None,)


def test_the_names_are_no_news() -> None:
    assert resolve(("dog",), ("cat", "dog")).remarks == ()


@pytest.mark.parametrize(
    ("classes", "text"),
    [
        (
            ("CAT", "Dog", "ship"),
            "2 of its 3 classes matched to the model's labels without regard to case, spaces, under",
        ),
        (("0", "1"), "2 of its 2 classes matched to the model's labels as indices from 0: 0 is cat, 1 is dog"),
        (
            ("pink", "cat"),
            "its labels are not the model's: pink, 1 of its 2 classes, are none of the model's 3 beyond doubt",
        ),
        (("1", "2"), "; numbers are indices where 0 is among them and none is too large"),
    ],
)
def test_all_else_is_said(classes: tuple[str, ...], text: str) -> None:
    (remark,) = resolve(classes, ("cat", "dog", "ship")).remarks
    assert text in remark


def test_thousands_of_classes() -> None:
    labels = [f"class {i}" for i in range(5_000)]
    assert resolve([label.upper() for label in labels[::-1]], labels).indices == tuple(range(4_999, -1, -1))
