"""Files that name classes: a name a line, a list or an ``id2label`` of JSON, or a table of numbers and names.

All that follow say the same:

    cat        ["cat", "dog"]      {"0": "cat", "1": "dog"}      {"cat": 0, "dog": 1}      index,name
    dog                            {"id2label": {"0": ..}}       {"0": ["n02121808", "cat"], ..}   0,cat
                                                                                                   1,dog
lines ``0 cat`` or ``0: cat`` with all the numbers from 0 on, in any order; or, in a file called ``.yaml``, lines ``0: cat``
or ``- cat`` under ``names:``.
"""

from __future__ import annotations

import ast
import csv
import itertools
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from train.data.labels.text import lines, text
from train.exceptions import DataError

Row = tuple[str, ...]  # what one class is called: its number first where it has one, then its names, the plainest last

_KEYS = ("id2label", "label2id")  # where a configuration of transformers has them
_TABLES = (".csv", ".tsv")
_YAML = (".yaml", ".yml")
_ITEM = re.compile(r"\s*(?:-|(\d+):)\s+(?P<quote>['\"]?)(.+?)(?P=quote)\s*(?:\s#.*)?$")
_NUMBERED = re.compile(r"\s*(\d+)(?::\s*|\s+)(\w.*)$")
_NAME_COLUMNS = ("name", "label", "class", "classname", "labelname")


def read_class_names(path: Path) -> tuple[str, ...]:
    """The names of a model's classes, in the order of its logits.

    Raises:
        DataError: no such file, no text in UTF-8, or names that are not numbered 0 to K - 1.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    return ordered(str(path), read_rows(str(path), data))


def of_value(title: str, value: object) -> tuple[str, ...]:
    """The names that a program gives, as a file of JSON would have them, or the path of a file of names.

    Raises:
        DataError: names without an order, or none of the forms.
    """
    if isinstance(value, str | Path):
        return read_class_names(Path(value))
    if isinstance(value, Mapping):
        table = {_plain(key): _plain(name) for key, name in value.items()}
        if all(isinstance(item, int) for pair in table.items() for item in pair) and any(
            a != b for a, b in table.items()
        ):
            raise DataError(f"{title}: of numbers alone nobody can tell which are the names; give these as text")
        return ordered(title, _of_object(title, table))
    if not isinstance(value, Iterable) or isinstance(value, set | frozenset):
        raise DataError(
            f"{title}: expected class names in the order of the logits, {{0: 'cat', ..}}, or a file of them, found "
            f"{type(value).__name__}"
        )
    return tuple(_text_of(title, _plain(name)) for name in value)


def _plain(value: object) -> object:
    """A number of numpy as Python's, and one with a point as its text."""
    value = value.item() if isinstance(value, np.generic) else value
    return str(value) if isinstance(value, float) else value


def ordered(title: str, rows: Iterable[Row]) -> tuple[str, ...]:
    """The plainest name of each class, by number.

    Raises:
        DataError: numbers that are not 0 to K - 1, each once.
    """
    named: dict[int, str] = {}
    for row in rows:
        if len(row) < 2 or not row[0].isdecimal():
            raise DataError(f"{title}: expected a number for each class, found {row[0]!r} without one")
        if int(row[0]) in named:
            raise DataError(
                f"{title}: the number {row[0]} is given to two classes, {named[int(row[0])]!r} and {row[-1]!r}"
            )
        named[int(row[0])] = row[-1]
    if missing := sorted(set(range(len(named))) - set(named)):
        raise DataError(
            f"{title}: expected the numbers 0 to {len(named) - 1} for {len(named)} classes, found {min(named)} to "
            f"{max(named)} without {missing[0]}"
        )
    return tuple(named[i] for i in range(len(named)))


def read_rows(title: str, data: bytes) -> list[Row]:
    """What each class is called, in the order of the file; lines without numbers are numbered from 0.

    Raises:
        DataError: no text in UTF-8, or not one of the forms.
    """
    content = text(title, data)
    if not content.strip():
        raise DataError(f"{title}: expected class names, found an empty file")
    if title.lower().endswith(_YAML):
        return _of_yaml(title, content)
    if content.lstrip()[0] in "[{":
        return _of_object(title, _parsed(title, content))
    return _of_table(title, content) or _of_numbered(content) or _numbered(lines(title, data))


def _numbered(names: Iterable[str]) -> list[Row]:
    return [(str(i), name) for i, name in enumerate(names)]


def _of_numbered(content: str) -> list[Row]:
    """The rows of lines of a number and a name, all numbers from 0 on, all names distinct; none of others: of ``0 - zero``
    and of ``0 stars``, ``1 stars`` the number is part of the name."""
    found = [_NUMBERED.match(line) for line in content.split("\n") if line.strip()]
    rows: list[Row] = [(str(int(match[1])), match[2].strip()) for match in found if match]
    numbers, names = {int(row[0]) for row in rows}, {row[1] for row in rows}
    return rows if len(names) == len(found) > 1 and numbers == set(range(len(found))) else []


def _of_object(title: str, found: Any) -> list[Row]:
    for key in _KEYS:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    rows: list[Row] = []
    if isinstance(found, list):
        rows = _numbered(_text_of(title, name) for name in found)
    elif isinstance(found, dict) and all(isinstance(value, int) and value >= 0 for value in found.values()):
        rows = [(str(number), _text_of(title, name)) for name, number in found.items()]
    elif isinstance(found, dict):
        rows = [(_text_of(title, key), *_names(title, value)) for key, value in found.items()]
    if not rows:
        raise DataError(f'{title}: expected a list of class names or {{"0": "cat", ..}}, found {type(found).__name__}')
    return rows


def _of_yaml(title: str, content: str) -> list[Row]:
    """The lines ``0: cat`` or ``- cat`` under ``names:``, as Ultralytics has them, or those that the file begins with."""
    given = [line for line in content.split("\n") if line.strip() and not line.lstrip().startswith("#")]
    start = next((i + 1 for i, line in enumerate(given) if line.split("#")[0].strip() == "names:"), 0)
    items = list(itertools.takewhile(bool, map(_ITEM.match, given[start:])))
    if not items:
        raise DataError(f"{title}: expected lines '0: cat' or '- cat', under 'names:' if anything else is in the file")
    return [(item[1] or str(i), _text_of(title, item[3])) for i, item in enumerate(items) if item]


def _parsed(title: str, content: str) -> Any:
    try:
        return json.loads(content)
    except ValueError as error:
        try:
            return ast.literal_eval(content)  # a dictionary that Python printed
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise DataError(f"{title}: expected JSON, as it begins like it ({error})") from error


def _names(title: str, value: object) -> list[str]:
    return [_text_of(title, name) for name in (value if isinstance(value, list) else [value])]


def _text_of(title: str, name: object) -> str:
    plain = unicodedata.normalize("NFC", str(name)).strip() if isinstance(name, str | int) else ""
    if not plain or isinstance(name, bool):
        raise DataError(f"{title}: expected a class name, found {name!r}")
    return plain


def _of_table(title: str, content: str) -> list[Row]:
    """The rows of a table of numbers and names, in either order, with or without a header; none for plain lines."""
    delimiter = "\t" if "\t" in content else ","
    given = [line for line in content.split("\n") if line.strip()]
    header = _cells(given[0], delimiter)
    if any(map(str.isdecimal, header)):
        header = []
    body = [_cells(line, delimiter, len(header) or 2) for line in given[bool(header) :]]
    if body and all(len(row) > 1 and row[0].isdecimal() for row in body):
        column = _column(title, header)
        return [(row[0], _text_of(title, row[column] if len(row) > column else "")) for row in body]
    numbers = [row[-1] for row in body if len(row) == 2]
    if body and sorted(numbers) == sorted(map(str, range(len(body)))):
        return [(number, _text_of(title, row[0])) for number, row in zip(numbers, body, strict=True)]
    if title.lower().endswith(_TABLES) and any(len(row) > 1 for row in body):
        raise DataError(f"{title}: expected lines 'index,name', found {given[-1]!r}")
    return []


def _cells(line: str, delimiter: str, count: int = 0) -> list[str]:
    """The cells of a line; without quotes at most `count`, for a name may have commas."""
    quoted = '"' in line
    cells = next(csv.reader([line], delimiter=delimiter)) if quoted else line.split(delimiter, count - 1)
    return [cell.strip() for cell in cells]


def _column(title: str, header: list[str]) -> int:
    """Which column of a table has the names."""
    if len(header) <= 2:
        return 1
    named = [i for i, cell in enumerate(header) if cell.casefold().replace("_", "") in _NAME_COLUMNS]
    if not named:
        raise DataError(f"{title}: expected a column 'name' beside the first, of numbers; found {', '.join(header)}")
    return named[0]
