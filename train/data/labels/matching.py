"""Which of a model's labels the classes of a source are: by name, by another name, or by number; never by a guess."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from train.data.labels.class_names import Row
from train.data.report import some
from train.exceptions import DataError

_GAPS = re.compile(r"[\s_\-]+")
_NUMBERED = re.compile(r"^(n\d{8}|\d+)[\s._\-]+(?=\D)")
_WNID = re.compile(r"n\d{8}$")


@dataclass(frozen=True)
class Resolution:
    """What became of each class.

    Attributes:
        indices: of the model's labels; None for a class that is none of them, or may be several.
        remarks: how they were found where not by their very names, or which were not.
    """

    indices: tuple[int | None, ...]
    remarks: tuple[str, ...]


class _Way(NamedTuple):
    """A way to know a label: what it is called, how names are written for it, what it knows, and whether a name and the index
    that it found go together."""

    text: str
    form: Callable[[str], str]
    known: Mapping[str, int]
    fits: Callable[[str, int], bool] = lambda *_: True


def resolve(classes: Sequence[str], labels: Sequence[str], synonyms: Sequence[Row] = ()) -> Resolution:
    """Find each class among a model's labels.

    Tried in this order, each where it leaves one label: the very name; the name without regard to case, spaces, underscores
    and hyphens; what `synonyms` call it; one of the names that a label lists, as ``tench, Tinca tinca`` does, or its WordNet
    number; the name without a number before it. Numbers that are nowhere a name are indices of the labels,
    from 0: where 0 is among them and none is too large.

    Args:
        classes: of a source.
        labels: of the model, distinct.
        synonyms: what a class is called; the number in one is the source's, not the model's.
    """
    exact = _unique((_composed(label), i) for i, label in enumerate(labels))
    plain = _unique((plainly(label), i) for i, label in enumerate(labels))
    listed = _unique((name, i) for i, label in enumerate(labels) for name in _listed(label))
    known = (
        _Way("", _composed, exact),
        _Way("without regard to case, spaces, underscores and hyphens", plainly, plain),
    )
    by_list = _Way("by one of the names that a label lists", plainly, listed)
    by_file = _Way("by what a file calls them", _plain_number, _by_synonyms(synonyms, (*known, by_list)))
    bare = _unique((_after_number(label), i) for i, label in enumerate(labels))
    by_rest = _Way(
        *("without the number before a name", _after_number, bare),
        fits=lambda name, index: not _differ_in_number(name, labels[index]),
    )
    found = [_first(name, (*known, by_file, by_list, by_rest)) for name in classes]
    if all(index is None for index, _ in found) and _are_indices(classes, labels):
        found = [(int(name), "as indices from 0") for name in classes]
    return Resolution(tuple(index for index, _ in found), tuple(_remarks(classes, labels, found)))


def renamed(title: str, classes: Sequence[str], rows: Sequence[Row]) -> tuple[str, ...]:
    """Classes by their plainest names in a file: found by a name, or where none is one by number.

    Raises:
        DataError: a class that is not in it, or two of one name.
    """
    by_number = {row[0]: row[-1] for row in rows if row[0].isdecimal()}
    by_name = {plainly(name): row[-1] for row in rows for name in row[row[0] in by_number :]}
    known, form = (
        (by_name, plainly) if any(plainly(name) in by_name for name in classes) else (by_number, _plain_number)
    )
    if missing := [name for name in classes if form(name) not in known]:
        raise DataError(f"{title}: it names no class {missing[0]!r}, which the images have")
    names = tuple(known[form(name)] for name in classes)
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError(f"{title}: several classes of the images are called {twice[0]!r}")
    return names


def plainly(name: str) -> str:
    """A name without regard to case, spaces, underscores and hyphens."""
    return _GAPS.sub(" ", unicodedata.normalize("NFC", name).casefold()).strip()


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _plain_number(name: str) -> str:
    """A name plainly; a number without the zeros before it."""
    return str(int(name)) if name.isdecimal() else plainly(name)


def _after_number(name: str) -> str:
    """What follows a number or a WordNet number: ``001.Black_footed_Albatross``, ``n02085620-Chihuahua``."""
    return plainly(_NUMBERED.sub("", name))


def _differ_in_number(name: str, label: str) -> bool:
    """Whether both have a number in front, and not the same: a 2-wheeler is no 3-wheeler."""
    numbers = [match[1] for text in (name, label) if (match := _NUMBERED.match(text)) and match[1].isdecimal()]
    return len({int(number) for number in numbers}) == 2


def _first(name: str, ways: Sequence[_Way]) -> tuple[int | None, str]:
    for way in ways:
        if (index := way.known.get(way.form(name))) is not None and way.fits(name, index):
            return index, way.text
    return None, ""


def _unique(pairs: Iterator[tuple[str, int]]) -> dict[str, int]:
    """The names that stand for one index alone."""
    found: dict[str, set[int]] = {}
    for name, index in pairs:
        found.setdefault(name, set()).add(index)
    return {name: next(iter(indices)) for name, indices in found.items() if len(indices) == 1}


def _listed(label: str) -> Iterator[str]:
    first, _, rest = label.partition(" ")
    if _WNID.match(first):
        yield plainly(first)
        label = rest
    yield from map(plainly, label.split(","))


def _by_synonyms(synonyms: Sequence[Row], ways: Sequence[_Way]) -> dict[str, int]:
    """What each name of a row stands for, where those of the row that are known stand for one label."""
    pairs = []
    for row in synonyms:
        names = [name for name in row if not name.isdecimal()] or list(row[1:])
        names += [part for name in names for part in _listed(name)]
        meant = {index for name in names if (index := _first(name, ways)[0]) is not None}
        pairs += [(_plain_number(name), index) for name in (row[0], *names) for index in meant]
    return _unique(iter(pairs))


def _are_indices(classes: Sequence[str], labels: Sequence[str]) -> bool:
    """Whether classes are numbers that can only be indices from 0: with 0, more than one, and none too large."""
    if len(classes) < 2 or not all(name.isdecimal() for name in classes):
        return False
    numbers = {int(name) for name in classes}
    return len(numbers) == len(classes) and min(numbers) == 0 and max(numbers) < len(labels)


def _remarks(classes: Sequence[str], labels: Sequence[str], found: Sequence[tuple[int | None, str]]) -> Iterator[str]:
    lost = [name for name, (index, _) in zip(classes, found, strict=True) if index is None]
    if lost:
        numbers = "; numbers are indices where 0 is among them and none is too large"
        yield (
            f"its labels are not the model's: {some(lost)}, {len(lost):,} of its {len(classes):,} classes, are none of the "
            f"model's {len(labels):,} beyond doubt ({some(labels)})" + numbers * all(map(str.isdecimal, lost))
        )
        return
    for way in dict.fromkeys(way for _, way in found if way):
        pairs = [
            f"{name} is {labels[index]}"
            for name, (index, own) in zip(classes, found, strict=True)
            if own == way and index is not None
        ]
        yield f"{len(pairs):,} of its {len(classes):,} classes matched to the model's labels {way}: {some(pairs)}"
