"""Images with several labels, or none, by a ``labels.csv`` at the root of their directory or tar.

file,labels           this line may be missing
street/1.png,car;dog
street/2.png,         an image without labels
"""

from __future__ import annotations

import csv
from pathlib import Path, PurePosixPath

from train.data.files import File, is_image, no_images
from train.data.index import Index
from train.data.labels import multi_hot
from train.exceptions import DataError

NAME = "labels.csv"
_HEADER = ["file", "labels"]


def index(path: Path, files: dict[str, File]) -> Index:
    """All images of a directory or tar, by name, with the labels that the file at ``files[NAME]`` gives them.

    Raises:
        DataError: a line that can't be understood or that names no image, or an image without a line.
    """
    images = sorted(name for name in files if is_image(name))
    if not images:
        raise no_images(path, list(files))
    labels = _read(f"{path}: {NAME}", files[NAME].read(), set(images))
    if missing := [name for name in images if name not in labels]:
        raise DataError(
            f"{path}: {NAME} has no line for {missing[0]} ({len(missing)} images in all); an image without labels "
            f"has the line '{missing[0]},'"
        )
    classes = tuple(sorted({label for of_image in labels.values() for label in of_image}))
    return Index(
        images, [files[name] for name in images], multi_hot([labels[name] for name in images], classes), classes
    )


def _read(title: str, data: bytes, images: set[str]) -> dict[str, list[str]]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{title}: expected UTF-8 text ({error})") from error
    lines: dict[str, int] = {}
    labels: dict[str, list[str]] = {}
    reader = csv.reader(text.splitlines(), strict=True)
    try:
        for row in reader:
            where = f"{title}, line {reader.line_num}"
            if not row or (row == _HEADER and reader.line_num == 1):
                continue
            if len(row) != 2:
                raise DataError(f"{where}: expected 'file,label;label;...', found {len(row)} columns")
            name = str(PurePosixPath(row[0].strip()))
            if name in lines:
                raise DataError(f"{where}: {name} is listed in line {lines[name]} already")
            if name not in images:
                raise DataError(f"{where}: there is no image {name}")
            lines[name], labels[name] = reader.line_num, _split(where, row[1])
    except csv.Error as error:
        raise DataError(f"{title}, line {reader.line_num}: {error}") from error
    return labels


def _split(where: str, cell: str) -> list[str]:
    if not cell.strip():
        return []
    labels = [label.strip() for label in cell.split(";")]
    for i, label in enumerate(labels):
        if not label:
            raise DataError(f"{where}: a label of {cell!r} is empty; expected label;label;...")
        if label in labels[:i]:
            raise DataError(f"{where}: label {label!r} is given twice")
    return labels
