"""Labels of WebDataset: ``key.jpg`` (or another image) stands beside ``key.cls`` or ``key.json``.

``key.cls`` holds a class's number or name, ``key.json`` has it under "label". What the numbers mean may be said by a
``classes.txt`` beside the shards, one name a line, the first of number 0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from train.data.files import File
from train.data.index import Index, labelled
from train.data.labels.text import lines
from train.data.listing import Listing
from train.data.report import Passed, Report, without
from train.exceptions import DataError

CLASSES = "classes.txt"


def has_labels(listing: Listing) -> bool:
    """Whether an image has its label beside it."""
    keys = {_key(name) for name in listing.images}
    return any(
        name.endswith(".cls") or (name.endswith(".json") and _has_label(file))
        for name, file in listing.files.items()
        if _key(name) in keys
    )


def _has_label(file: File) -> bool:
    """Whether a .json has a label, or is too damaged to say that it has none."""
    try:
        return _of_json("", file) is not None
    except DataError:
        return True


def index(path: Path, listing: Listing) -> Index:
    """All images of the shards, in the order of the listing, which has them by ``shard.tar/key.jpg``.

    Raises:
        DataError: no images, an image without a label, or a label that is not one of ``classes.txt``.
    """
    plain = {_key(name) for name in listing.images if _is_plain(name)}
    images = [name for name in listing.images if _is_plain(name) or _key(name) not in plain]
    others = tuple(name for name in listing.images if not _is_plain(name) and _key(name) in plain)
    if not images:
        raise DataError(f"{path}: no images; expected shards with key.jpg beside key.cls or key.json")
    labels = [_label(f"{path}: {name}", _key(name), listing.files) for name in images]
    classes = _classes(path.parent if not path.is_dir() else path)
    if classes:
        known = {str(i): name for i, name in enumerate(classes)}
        known |= {name: name for name in classes if not name.isdecimal()}
        for i, label in enumerate(labels):
            if label not in known:
                raise DataError(f"{path}: {images[i]}: label {label!r} is none of the {len(classes)} in {CLASSES}")
            labels[i] = known[label]
    keys = {_key(name) for name in images}
    beside = {name for name in listing.files if _key(name) in keys}
    more = (Passed("images beside a sample's own, such as masks", others),) if others else ()
    report = Report("labels = what stands beside each image", (*without(listing.passed, beside), *more))
    return labelled(images, [listing.files[name] for name in images], labels, report, classes=classes or None)


def _key(name: str) -> str:
    """A file's name up to the first dot of its last component."""
    folder, slash, file = name.rpartition("/")
    return f"{folder}{slash}{file.partition('.')[0]}"


def _is_plain(name: str) -> bool:
    """Whether a file's name is its sample's key and one ending: ``000.jpg``, and not ``000.seg.png``."""
    return name.rpartition("/")[2].count(".") == 1


def _of_json(title: str, file: File) -> object:
    """What a .json has under "label"; None for nothing.

    Raises:
        DataError: no JSON.
    """
    try:
        content = json.loads(file.read())
    except ValueError as error:
        raise DataError(f"{title}: the .json beside it is damaged ({error})") from error
    return content.get("label") if isinstance(content, dict) else None


def _label(title: str, key: str, files: Mapping[str, File]) -> str:
    if (file := files.get(f"{key}.cls")) is not None:
        found: object = file.read().decode(errors="replace").strip()
    elif (file := files.get(f"{key}.json")) is not None:
        found = _of_json(title, file)
    else:
        raise DataError(f"{title}: there is neither .cls nor .json beside it to give its label")
    if isinstance(found, bool) or not isinstance(found, str | int) or found == "":
        raise DataError(f"{title}: expected a class's number or name beside it, found {found!r}")
    return str(int(found)) if str(found).isdecimal() else str(found)


def _classes(folder: Path) -> tuple[str, ...]:
    file = folder / CLASSES
    try:
        classes = tuple(lines(str(file), file.read_bytes()))
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise DataError(f"{file}: not readable as one class name a line ({error})") from error
    for i, name in enumerate(classes):
        if name in classes[:i]:
            raise DataError(f"{file}, line {i + 1}: expected another class name, found {name!r}")
    return classes
