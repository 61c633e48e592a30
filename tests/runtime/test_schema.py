"""Building dataclasses from JSON values: what is taken, and how each mistake is named."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from runtime.schema import build


@dataclass(frozen=True)
class Inner:
    size: int
    ratio: float = 0.5

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size must be positive, found {self.size}")


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner
    kind: Literal["a", "b"] = "a"
    flag: bool = False
    pair: tuple[float, int] = (0.0, 0)
    many: tuple[str, ...] = ()
    table: dict[str, Inner] = field(default_factory=dict)
    maybe: Inner | None = None
    anything: Any = None


MINIMAL: dict[str, Any] = {"name": "n", "inner": {"size": 1}}


def test_what_is_left_out_takes_its_default() -> None:
    assert build(Outer, MINIMAL) == Outer("n", Inner(1))


@pytest.mark.parametrize(
    "outer",
    [
        Outer("n", Inner(2, 0.25), "b", True, (1.5, 3), ("x", "y"), {"k": Inner(4)}, Inner(5), {"free": [1, None]}),
        Outer("", Inner(1)),
        Outer("ünïcode", Inner(10**30), table={"": Inner(1)}),
    ],
)
def test_what_was_written_as_json_is_built_again(outer: Outer) -> None:
    assert build(Outer, json.loads(json.dumps(dataclasses.asdict(outer)))) == outer


def test_an_integer_is_a_number_and_becomes_a_float() -> None:
    ratio = build(Inner, {"size": 1, "ratio": 2}).ratio
    assert (ratio, type(ratio)) == (2.0, float)


def test_null_is_none_where_it_is_allowed() -> None:
    assert build(Outer, {**MINIMAL, "maybe": None}).maybe is None


@pytest.mark.parametrize("value", [None, 1, "text", [1, {"a": None}], {"deep": {"er": []}}])
def test_any_takes_every_value(value: Any) -> None:
    assert build(Outer, {**MINIMAL, "anything": value}).anything == value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 1}, "^name: expected a value of type str, found 1$"),
        ({"name": None}, "^name: expected a value of type str, found None$"),
        ({"flag": 1}, "^flag: expected a value of type bool, found 1$"),
        ({"kind": "c"}, r"^kind: expected one of \['a', 'b'\], found 'c'$"),
        ({"kind": ["a"]}, r"^kind: expected one of"),
        ({"inner": 3}, "^inner: expected an object, found 3$"),
        ({"inner": None}, "^inner: expected an object"),
        ({"inner": {}}, r"^inner\.size: missing$"),
        ({"inner": {"size": 1.0}}, r"^inner\.size: expected a value of type int, found 1\.0$"),
        ({"inner": {"size": True}}, r"^inner\.size: expected a value of type int, found True$"),
        ({"inner": {"size": "1"}}, r"^inner\.size: expected a value of type int"),
        ({"inner": {"size": 1, "ratio": True}}, r"^inner\.ratio: expected a number, found True$"),
        ({"inner": {"size": 1, "ratio": "0.5"}}, r"^inner\.ratio: expected a number"),
        ({"inner": {"size": 1, "ratio": 10**400}}, r"^inner\.ratio: expected a number"),
        ({"inner": {"size": 0}}, "^inner: size must be positive, found 0$"),
        ({"inner": {"size": 1, "sice": 2}}, r"^inner\.sice: unknown field; known are \['ratio', 'size'\]$"),
        ({"pair": [1.0]}, r"^pair: expected 2 values, found \[1\.0\]$"),
        ({"pair": [1.0, 2, 3]}, "^pair: expected 2 values"),
        ({"pair": "ab"}, "^pair: expected a list, found 'ab'$"),
        ({"pair": [1.0, 2.5]}, r"^pair\[1\]: expected a value of type int, found 2\.5$"),
        ({"many": ["x", 2]}, r"^many\[1\]: expected a value of type str, found 2$"),
        ({"many": {"x": 1}}, "^many: expected a list"),
        ({"table": [1]}, "^table: expected an object"),
        ({"table": {"k": {"size": "s"}}}, r"^table\.k\.size: expected a value of type int"),
        ({"table": {"k": {"size": -1}}}, r"^table\.k: size must be positive"),
        ({"maybe": {}}, r"^maybe\.size: missing$"),
        ({"maybe": False}, "^maybe: expected an object, found False$"),
        ({"maybe": {"size": None}}, r"^maybe\.size: expected a value of type int"),
        ({"extra": 1}, "^extra: unknown field"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_mistake_is_named_by_its_path(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(Outer, {**MINIMAL, **change})


def test_a_missing_field_is_named() -> None:
    with pytest.raises(ValueError, match=r"^inner: missing$"):
        build(Outer, {"name": "n"})


@pytest.mark.parametrize("document", [None, 1, "text", [], True])
def test_a_document_that_is_no_object_is_named_so(document: Any) -> None:
    with pytest.raises(ValueError, match=r"^document: expected an object, found"):
        build(Outer, document)


def test_a_path_starts_where_the_caller_says() -> None:
    with pytest.raises(ValueError, match=r"^here\.size: missing$"):
        build(Inner, {}, "here")


def test_a_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(ValueError, match=r"^name: .{1,150}$"):
        build(Outer, {**MINIMAL, "name": ["x"] * 1000})
