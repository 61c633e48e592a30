"""Which names a pattern stands for."""

from __future__ import annotations

import pytest

from runtime.exceptions import OodgateError
from runtime.patterns import is_wild, numbered


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("train.tar", None),
        ("train-{08..11}.tar", ["train-08.tar", "train-09.tar", "train-10.tar", "train-11.tar"]),
        ("s3://b/{1..2}/{0..1}.tar", ["s3://b/1/{0..1}.tar", "s3://b/2/{0..1}.tar"]),
        ("{7..7}", ["7"]),
        ("{a..b}", None),
    ],
)
def test_a_range_is_all_its_numbers(name: str, names: list[str] | None) -> None:
    assert numbered(name) == names


def test_a_range_that_counts_down() -> None:
    with pytest.raises(OodgateError, match=r"x\{2\.\.1\}: the pattern \{2\.\.1\} counts down; expected \{1\.\.2\}"):
        numbered("x{2..1}")


@pytest.mark.parametrize(
    ("name", "wild"), [("a/*.jpg", True), ("a?.png", True), ("[ab].png", True), ("{0..1}.tar", False)]
)
def test_wildcards(name: str, *, wild: bool) -> None:
    assert is_wild(name) == wild
