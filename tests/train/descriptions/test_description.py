"""What is known of a classifier: who says what, what is missing, and what an input is made of."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runtime.manifest import InputSpec
from train.descriptions.description import Description, check_labels, named, needs
from train.exceptions import ModelError

WHOLE = Description(
    labels=("cat", "dog"), size=(224, 192), mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3), resize="shortest", resize_to=256
)


def test_an_input() -> None:
    expected = InputSpec(224, 192, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3), resize="shortest", resize_to=256, colour="srgb")
    assert WHOLE.input() == expected


def test_the_user_is_right_where_both_say_something() -> None:
    files = replace(WHOLE, corner="floor", interpolation="bicubic", remarks=("from a file",))
    given = Description(mean=(0, 0, 0), resize="squash", resize_to=(300, 400), task="multilabel")
    found = given.over(files)
    assert (found.mean, found.std, found.labels, found.task) == ((0, 0, 0), WHOLE.std, WHOLE.labels, "multilabel")
    assert (found.resize, found.resize_to, found.corner, found.interpolation) == (
        "squash",
        (300, 400),
        "floor",
        "bicubic",
    )
    assert found.remarks == ("from a file",)


def test_a_colour_where_nothing_is_to_be_filled() -> None:
    files = replace(WHOLE, resize="center", resize_to=None)
    with pytest.raises(ModelError, match="center leaves nothing to fill; --resize border does"):
        Description(fill=(1, 2, 3)).over(files).input()


def test_how_to_resize_goes_together() -> None:
    files = replace(WHOLE, resize="border", resize_to=(250, 250), fill=(1, 2, 3))
    found = Description(resize="squash").over(files)
    assert (found.resize, found.resize_to, found.fill) == ("squash", None, None)


def test_all_that_is_missing_is_said_at_once_with_what_it_usually_is() -> None:
    with pytest.raises(ModelError) as error:
        Description().input()
    message = str(error.value)
    assert message.startswith("--model needs --labels, --size, --mean, --std and --resize-to too: nothing else says")
    assert "--size 224 --mean 0.485 0.456 0.406 --std 0.229 0.224 0.225 --resize-to 256" in message
    assert "--labels FILE, one class name a line in the logits' order" in message


def test_one_that_is_missing() -> None:
    assert needs(["labels"]).startswith("--model needs --labels too: ")
    assert "ImageNet" not in needs(["labels"])


def test_one_channel() -> None:
    spec = replace(WHOLE, mean=(0.1307,), std=(0.3081,), channels="grey").input()
    assert (spec.mean, spec.std, spec.channels) == ((0.1307,) * 3, (0.3081,) * 3, "grey")


def test_four_channels() -> None:
    spec = replace(WHOLE, mean=(0.5, 0.4, 0.3, 0.25), std=(0.2, 0.25, 0.3, 0.5), channels="rgba").input()
    assert (spec.mean, spec.opaque) == ((0.5, 0.4, 0.3), 1.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean": (0.5, 0.5)}, "mean must be of 1, 3 or 4 channels, found 2"),
        ({"std": (0, 1, 1)}, "std positive"),
        ({"channels": "rgba"}, "rgba needs four values"),
        ({"size": (0, 3)}, "input size must be positive"),
        ({"resize": "shortest", "resize_to": None}, "shortest needs the short side"),
    ],
)
def test_what_makes_no_sense(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=f"the input's options: .*{message}"):
        replace(WHOLE, **changes).input()  # type: ignore[arg-type]


def test_labels_of_files_are_made_distinct() -> None:
    found = named(["crane", "cat", "crane", "maillot", "maillot"], "config.json")
    assert found.labels == ("crane (0)", "cat", "crane (2)", "maillot (3)", "maillot (4)")
    assert found.lines == (
        "5 labels from config.json: crane (0), cat, crane (2) ...",
        "labels that several classes share got their index: crane, maillot",
    )
    assert named(["cat", "dog"], "names").lines == ("2 labels from names: cat, dog ...",)


def test_where_labels_are_from_goes_with_them() -> None:
    found = replace(named(["cat", "dog"], "config.json"), remarks=("input from timm",))
    assert Description(labels=("a", "b"), remarks=("given",)).over(found).lines == ("given", "input from timm")
    assert Description(size=(3, 3)).over(found).lines == ("2 labels from config.json: cat, dog ...", "input from timm")
    assert Description(task="unlabelled").over(found).lines == ("input from timm",)


def test_labels_of_a_user_have_to_be() -> None:
    with pytest.raises(ModelError, match="'cat' twice"):
        check_labels(["cat", "dog", "cat"])
