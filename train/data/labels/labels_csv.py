"""Labels by a ``labels.csv`` at the root of a folder or an archive, where an image may have several or none.

file,labels           this line may be missing
street/1.png,car;dog
street/2.png,         an image without labels
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from train.data.index import Index, multilabelled
from train.data.labels.text import text
from train.data.listing import Listing, no_images
from train.data.report import Report, without
from train.exceptions import DataError

NAME = "labels.csv"
HEADER = ["file", "labels"]
_LIST = re.compile(r"""\[\s*(['"].*)?\]""")
USUAL = ";"  # between the labels of one image


def index(path: Path, listing: Listing) -> Index:
    """All images, by name, with the labels that the file gives them.

    Raises:
        DataError: a line that can't be understood or that names no image, or an image without a line.
    """
    images = sorted(listing.images)
    if not images:
        raise no_images(path, listing.files)
    labels = _lines(f"{path}: {NAME}", listing, set(images))
    if missing := [name for name in images if name not in labels]:
        raise DataError(
            f"{path}: {NAME} has no line for {missing[0]} ({len(missing)} images in all); an image without labels "
            f"has the line '{missing[0]},'"
        )
    report = Report(f"labels = {NAME}", without(listing.passed, {NAME}))
    return multilabelled(images, [listing.files[name] for name in images], [labels[name] for name in images], report)


def _lines(title: str, listing: Listing, images: set[str]) -> dict[str, list[str]]:
    lines: dict[str, int] = {}
    cells: dict[str, str] = {}
    content = text(title, listing.files[NAME].read()).removesuffix("\n").split("\n")
    reader = csv.reader(content, strict=True, skipinitialspace=True)
    try:
        for row in reader:
            where = f"{title}, line {reader.line_num}"
            if not any(map(str.strip, row)) or (row == HEADER and reader.line_num == 1):
                continue
            if len(row) != 2:
                raise DataError(f"{where}: expected 'file,label;label;...', found {len(row)} columns")
            name = str(PurePosixPath(listing.named(row[0].strip())))
            if name in lines:
                raise DataError(f"{where}: {name} is listed in line {lines[name]} already")
            if name not in images:
                raise DataError(f"{where}: there is no image {name}")
            check_no_list(where, row[1])
            lines[name], cells[name] = reader.line_num, row[1]
    except csv.Error as error:
        raise DataError(f"{title}, line {reader.line_num}: {error}") from error
    separator = separator_of(cells.values()) or USUAL
    return {name: cell(f"{title}, line {lines[name]}", each, separator) for name, each in cells.items()}


def separator_of(cells: Collection[str]) -> str | None:
    """What stands between the labels of one image: the first of two marks that the cells have; None where they have none."""
    return next((mark for mark in (USUAL, "|") if any(mark in each for each in cells)), None)


def cell(where: str, content: str, separator: str) -> list[str]:
    """The labels of one image.

    Raises:
        DataError: one that is empty or given twice.
    """
    if not content.strip():
        return []
    labels = [label.strip() for label in content.split(separator)]
    for i, label in enumerate(labels):
        if not label:
            raise DataError(f"{where}: a label of {content!r} is empty; expected label{separator}label{separator}...")
        if label in labels[:i]:
            raise DataError(f"{where}: label {label!r} is given twice")
    return labels


def check_no_list(where: str, content: str) -> None:
    """Raises DataError for a list of texts as Python and pandas write it."""
    if _LIST.fullmatch(content.strip()):
        raise DataError(f"{where}: {content!r} is a list as Python writes it; expected label;label;...")
