"""A table of images and their labels, as text: a line an image, separated by commas, tabs, semicolons, bars or a space."""

from __future__ import annotations

import csv
import io
import posixpath
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from runtime.folder import is_image
from runtime.preprocess.formats import SUFFIXES
from train.data.files import File
from train.data.index import Index, labelled, multilabelled, unlabelled
from train.data.labels.columns import choose, is_usual, splits
from train.data.labels.labels_csv import HEADER, USUAL, cell, check_no_list, separator_of
from train.data.labels.labels_csv import NAME as LABELS_CSV
from train.data.labels.text import text
from train.data.listing import Listing
from train.data.options import Reading
from train.data.report import Passed, Report, some, without
from train.exceptions import DataError

Find = Callable[[str], File | None]  # a cell to the image that it names, if it is there

_DELIMITERS = (",", "\t", ";", "|")
_SAMPLE = 50  # lines that the delimiter must fit
_WHOLE = re.compile(r"(\d+)\.0$")  # an integer that a library wrote as a float
# Of files that a table names without, the usual ones first.
_SUFFIXES = dict.fromkeys((".jpg", ".jpeg", ".png", ".webp", *sorted(SUFFIXES)))
_ENDINGS = ("", *(each for suffix in _SUFFIXES for each in (suffix, suffix.upper())))


@dataclass(frozen=True)
class _Table:
    """Rows of as many cells as there are columns, each with the number of its line."""

    names: list[str]
    rows: list[tuple[int, list[str]]]

    def column(self, name: str) -> list[str]:
        at = self.names.index(name)
        return [cells[at] for _, cells in self.rows]


def has_own_header(title: str, data: bytes) -> bool:
    """Whether a labels.csv begins with a header of a usual kind that is not ours."""
    first = text(title, data).split("\n", 1)[0].strip()
    cells = _split(first, _delimiter([first]))
    return cells != HEADER and len(cells) > 1 and any(map(is_usual, cells)) and not any(map(is_image, cells))


def of_rows(
    title: str,
    data: bytes,
    find: Find,
    reading: Reading,
    listing: Listing | None = None,
    *,
    where: str = "the folder of the table",
) -> Index:
    """The images that a table lists, with their labels if it has any.

    An image may have several labels, separated by ``;`` or ``|``. One that is listed twice alike counts once.

    Args:
        title: what errors call the table.
        data: its bytes.
        find: from a cell to its image.
        reading: the columns, where the user names them.
        listing: what lies beside the table, to say which images it does not list.
        where: what errors call the place that paths are taken from.

    Raises:
        DataError: text that can't be understood, no column of images, none of the images there, or one with two labels.
    """
    table = _parse(title, data, find)
    columns = choose(title, table.names, reading, _image_columns(table, find))
    named = listing.named if listing else str
    cells = [posixpath.normpath(named(cell)) for cell in table.column(columns.path)]
    files = {name: _found(name, find) for name in dict.fromkeys(cells)}
    missing = tuple(name for name, file in files.items() if file is None)
    if missing and (reading.strict or len(missing) == len(files)):
        share = "none" if len(missing) == len(files) else f"{len(files) - len(missing):,}"
        raise DataError(
            f"{title}: {share} of its {len(files):,} images are there, by column {columns.path!r}; not {some(missing)}; "
            f"paths are taken from {where}, and --path-column names another column"
        )
    labels = None if columns.label is None else _labels(title, table, cells, columns.label)
    kept = {name: file for name, file in files.items() if file is not None}
    repeated = len(cells) - len(files)
    remarks = [f"{repeated:,} lines repeat another"] if repeated else []
    remarks += splits(table.names, columns, table.column)
    report = Report(str(columns), _passed(missing, kept, listing), tuple(remarks))
    return _index(title, kept, labels, report, ours=table.names == HEADER)


def _index(title: str, files: dict[str, File], labels: dict[str, str] | None, report: Report, *, ours: bool) -> Index:
    names, places = list(files), list(files.values())
    if labels is None:
        return replace(unlabelled(names, places, report), report=report)
    for name, label in labels.items():
        check_no_list(f"{title}: {name}", label)
    separator = separator_of(labels.values()) or (USUAL if ours else None)
    if separator:
        several = [cell(f"{title}: {name}", labels[name], separator) for name in names]
        return multilabelled(names, places, several, report)
    if bare := [name for name in names if not labels[name]]:
        remark = f"taken as unlabelled, as {len(bare):,} images have no label: {some(bare)}"
        return replace(unlabelled(names, places, report), report=replace(report, remarks=(*report.remarks, remark)))
    return labelled(names, places, [labels[name] for name in names], report)


def _labels(title: str, table: _Table, paths: Sequence[str], column: str) -> dict[str, str]:
    """The cell of labels of each image."""
    labels: dict[str, str] = {}
    lines: dict[str, int] = {}
    for (line, _), name, label in zip(table.rows, paths, table.column(column), strict=True):
        own = _WHOLE.sub(r"\1", label)
        if labels.setdefault(name, own) != own:
            raise DataError(
                f"{title}, line {line}: {name} is {own!r}, and {labels[name]!r} in line {lines[name]}; an image has one line"
            )
        lines.setdefault(name, line)
    return labels


def _passed(missing: tuple[str, ...], kept: Collection[str], listing: Listing | None) -> tuple[Passed, ...]:
    passed = [Passed("listed but not there", missing)]
    if listing is not None:
        passed.append(Passed("not listed", tuple(name for name in listing.images if name not in kept)))
        passed += listing.passed
    return without(passed, {LABELS_CSV})


def _found(name: str, find: Find) -> File | None:
    tried = [name + ending for ending in _ENDINGS] if "." not in name.rpartition("/")[2] else [name]
    return next((file for each in tried if each and (file := find(each)) is not None), None)


def _image_columns(table: _Table, find: Find) -> list[str]:
    """The columns whose first cell is an image that is there."""
    return [name for name, value in zip(table.names, table.rows[0][1], strict=True) if _found(value, find) is not None]


def _parse(title: str, data: bytes, find: Find) -> _Table:
    content = text(title, data)
    delimiter = _delimiter([line for line in content.split("\n") if line.strip()][:_SAMPLE])
    try:
        reader = csv.reader(
            io.StringIO(content, newline=""), delimiter=delimiter or "\0", strict=True, skipinitialspace=True
        )
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise DataError(f"{title}, line {reader.line_num}: {error}") from error
    if delimiter is None:
        rows = [(line, _by_last_space(cells[0], find)) for line, cells in rows]
    if not rows:
        raise DataError(f"{title}: expected a line an image, found an empty file")
    first = rows[0][1]
    headed = len(rows) > 1 and all(_found(value, find) is None and not is_image(value) for value in first)
    names = first if headed else _unnamed(first, find)
    body = rows[1:] if headed else rows
    for line, cells in body:
        if len(cells) != len(names):
            raise DataError(
                f"{title}, line {line}: expected {len(names)} cells as in the first line, found {len(cells)}"
            )
    if len(set(names)) != len(names):
        raise DataError(f"{title}: expected columns of different names, found {', '.join(names)}")
    return _Table(names, body)


def _unnamed(first: Sequence[str], find: Find) -> list[str]:
    """Names for the columns of a table without a header: the first image's is the path, the only other one the label."""
    at = next((i for i, value in enumerate(first) if _found(value, find) is not None or is_image(value)), 0)
    return ["path" if i == at else "label" if len(first) == 2 else f"column {i + 1}" for i in range(len(first))]


def _delimiter(lines: Sequence[str]) -> str | None:
    """The delimiter by which all lines have the same number of cells, more than one; None for lines of one cell."""
    for delimiter in _DELIMITERS:
        counts = {len(_split(line, delimiter)) for line in lines}
        if len(counts) == 1 and counts != {1}:
            return delimiter
    if lines and any(mark in lines[0] for mark in _DELIMITERS):
        return max(_DELIMITERS, key=lines[0].count)
    return None


def _split(line: str, delimiter: str | None) -> list[str]:
    if delimiter is None:
        return [line]
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])]
    except csv.Error:
        return [line]


def _by_last_space(line: str, find: Find) -> list[str]:
    """``a b.jpg 3`` as its image and its label, where the line as a whole is no image."""
    parts = line.rsplit(None, 1)
    if len(parts) != 2 or is_image(line):
        return [line]
    return parts if is_image(parts[0]) or (_found(line, find) is None and _found(parts[0], find)) else [line]
