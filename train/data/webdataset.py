"""WebDataset shards: tars in which ``key.jpg`` (or another image) stands beside ``key.cls`` or ``key.json``.

``key.cls`` holds a class's number or name, ``key.json`` has it under "label". What the numbers mean may be said by a
``classes.txt`` beside the shards, one name a line, the first of number 0.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from train.data.files import File, is_image
from train.data.index import Index, one_class
from train.exceptions import DataError

CLASSES = "classes.txt"
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def shards(path: Path) -> list[Path]:
    """The tars that ``train-{000..009}.tar`` stands for, or those that lie in a directory; none for other paths.

    Raises:
        DataError: a pattern that counts down.
    """
    if path.is_dir():
        return sorted(path.glob("*.tar"))
    match = _RANGE.search(path.name)
    if not match:
        return []
    first, last = match.groups()
    if int(first) > int(last):
        raise DataError(f"{path}: the pattern {match[0]} counts down; expected {{{last}..{first}}}")
    names = [path.name.replace(match[0], f"{i:0{len(first)}}", 1) for i in range(int(first), int(last) + 1)]
    return [shard for name in names for shard in shards(path.with_name(name)) or [path.with_name(name)]]


def has_labels(files: dict[str, File]) -> bool:
    """Whether an image of a tar has its label beside it."""
    labelled = {_key(name) for name in files if name.endswith((".cls", ".json"))}
    return any(is_image(name) and _key(name) in labelled for name in files)


def index(path: Path, files: dict[str, File]) -> Index:
    """All images of the shards, in the order of `files`, which has them by ``shard.tar/key.jpg``.

    Raises:
        DataError: no images, an image without a label, or a label that is not one of ``classes.txt``.
    """
    images = [name for name in files if is_image(name)]
    if not images:
        raise DataError(f"{path}: no images; expected shards with key.jpg beside key.cls or key.json")
    labels = [_label(f"{path}: {name}", _key(name), files) for name in images]
    classes = _classes(path.parent if not path.is_dir() else path)
    if classes:
        known = {str(i): name for i, name in enumerate(classes)}
        known |= {name: name for name in classes if not name.isdecimal()}
        for i, label in enumerate(labels):
            if label not in known:
                raise DataError(f"{path}: {images[i]}: label {label!r} is none of the {len(classes)} in {CLASSES}")
            labels[i] = known[label]
    else:
        distinct = set(labels)
        classes = tuple(sorted(distinct, key=int if all(map(str.isdecimal, distinct)) else None))
    return Index(images, [files[name] for name in images], one_class(labels, classes), classes)


def _key(name: str) -> str:
    """A file's name up to the first dot of its last component."""
    folder, slash, file = name.rpartition("/")
    return f"{folder}{slash}{file.partition('.')[0]}"


def _label(title: str, key: str, files: dict[str, File]) -> str:
    if (file := files.get(f"{key}.cls")) is not None:
        found: object = file.read().decode(errors="replace").strip()
    elif (file := files.get(f"{key}.json")) is not None:
        try:
            content = json.loads(file.read())
        except ValueError as error:
            raise DataError(f"{title}: the .json beside it is damaged ({error})") from error
        found = content.get("label") if isinstance(content, dict) else None
    else:
        raise DataError(f"{title}: there is neither .cls nor .json beside it to give its label")
    if isinstance(found, bool) or not isinstance(found, str | int) or found == "":
        raise DataError(f"{title}: expected a class's number or name beside it, found {found!r}")
    return str(int(found)) if str(found).isdecimal() else str(found)


def _classes(folder: Path) -> tuple[str, ...]:
    file = folder / CLASSES
    try:
        classes = tuple(file.read_text(encoding="utf-8").splitlines())
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: not readable as one class name a line ({error})") from error
    for i, name in enumerate(classes):
        if not name.strip() or name in classes[:i]:
            raise DataError(f"{file}, line {i + 1}: expected another class name, found {name!r}")
    return classes
