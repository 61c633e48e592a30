"""Which columns of a table have the images and the labels: those that the user names, or the usual names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from train.data.options import Reading
from train.data.report import some
from train.exceptions import DataError

_SEPARATORS = re.compile(r"[\s_\-.]+")
# Without separators and case; the first that is there is taken.
PATHS = (
    "path", "filepath", "imagepath", "imgpath", "file", "filename", "imagefile", "imagefilename", "imagefilepath", "image",
    "images", "img", "imagename", "imgname", "fname", "picture", "photo", "imageid", "imgid", "id", "name",
)  # fmt: skip
LABELS = (
    "label", "labels", "labelname", "class", "classname", "classes", "category", "categories", "categoryname", "target",
    "targets", "species", "breed", "tag", "tags", "finelabel", "groundtruth", "labelid", "classid", "categoryid", "classidx",
    "labelidx", "y",
)  # fmt: skip
_SPLITS = ("split", "subset", "partition", "fold", "set")
_MANY = 20  # values of a column that are no splits


@dataclass(frozen=True)
class Columns:
    """Names of columns; no `label` where there are no labels."""

    path: str
    label: str | None
    guessed: bool

    def __str__(self) -> str:
        labels = "no labels" if self.label is None else f"labels = column {self.label!r}"
        text = f"images = column {self.path!r}, {labels}"
        return f"{text} (a guess: --path-column and --label-column say otherwise)" if self.guessed else text


def choose(title: str, names: Sequence[str], reading: Reading, paths: Sequence[str] = ()) -> Columns:
    """The columns with the images and the labels.

    Args:
        title: what errors call the table.
        names: of all columns.
        reading: those that the user names.
        paths: the columns that look like images, if any does: the guess is one of them.

    Raises:
        DataError: no such column, or none that may have the images.
    """
    path = _named(title, names, reading.path_column, "--path-column") or _usual(paths or names, PATHS)
    if path is None and len(paths) == 1:
        path = paths[0]
    if path is None:
        raise DataError(f"{title}: no column of images among {', '.join(names)}; name it by --path-column")
    others = [name for name in names if name != path]
    label = _named(title, others, reading.label_column, "--label-column") or _usual(others, LABELS)
    guessed = reading.path_column is None or (reading.label_column is None and bool(others))
    return Columns(path, label, guessed)


def splits(names: Sequence[str], taken: Columns, values: Callable[[str], Iterable[object]]) -> list[str]:
    """That rows of several splits are read, a line, if a column of a usual name says that there are several.

    Args:
        names: of all columns.
        taken: those that are read.
        values: those of a column, by its name.
    """
    name = _usual([each for each in names if each not in (taken.path, taken.label)], _SPLITS)
    counts = Counter(map(str, values(name))) if name else Counter()
    if not 1 < len(counts) <= _MANY:
        return []
    listed = ", ".join(f"{value} {count:,}" for value, count in sorted(counts.items()))
    return [f"column {name!r} ({listed}) is not looked at: rows of all of them are read"]


def is_usual(name: str) -> bool:
    """Whether a column of this name may have the images."""
    return _bare(name) in PATHS


def _bare(name: str) -> str:
    return _SEPARATORS.sub("", name.casefold())


def _usual(names: Sequence[str], usual: Sequence[str]) -> str | None:
    known = {_bare(name): name for name in reversed(names)}
    return next((known[name] for name in usual if name in known), None)


def _named(title: str, names: Sequence[str], wanted: str | None, option: str) -> str | None:
    if wanted is None or wanted in names:
        return wanted
    alike = [name for name in names if _bare(name) == _bare(wanted)]
    if len(alike) == 1:
        return alike[0]
    raise DataError(f"{title}: {option} {wanted}: expected one of its columns, {some(names)}")
