"""Labels by the folders that images lie in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from train.data.index import Index, labelled
from train.data.labels.class_names import Row, read_rows
from train.data.listing import Listing
from train.data.report import Report, some, without
from train.exceptions import DataError

SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing", "dev", "eval"}
# What a set says of its classes in a file at its root, beside their folders.
_CLASS_NAMES = (
    "id2label.json", "label2id.json", "class_index.json", "imagenet_class_index.json", "class_names.json", "classes.json",
    "labels.json", "LOC_synset_mapping.txt", "synset_words.txt", "words.txt",
)  # fmt: skip


_OWN = "the name of the source, as there is no folder in it"


def index(listing: Listing, own: str, *, depth: int = 0, alone: bool = False) -> Index:
    """All images, by class and name; those outside any folder are of a class of their own.

    Args:
        listing: the files, among them images.
        own: the class of images outside any folder.
        depth: of folders that are not the source's own, such as the names of shards.
        alone: whether the only folder is the one that the images were asked for in.
    """
    folders = [tuple(name.split("/")[depth:-1]) for name in listing.images]
    found_labels, how, remarks = by_innermost(folders)
    labels = [label or own for label in found_labels]
    order = sorted(range(len(labels)), key=lambda i: (labels[i], listing.images[i]))
    names = [listing.images[i] for i in order]
    synonyms, file = _synonyms(listing)
    strays = (
        [name for name, label in zip(listing.images, found_labels, strict=True) if not label] if how != _OWN else []
    )
    report = Report(f"labels = {how}", without(listing.passed, {file}), remarks, tuple(sorted(strays)))
    files = [listing.files[name] for name in names]
    found = labelled(names, files, [labels[i] for i in order], report, synonyms, tuple(sorted(set(labels))))
    return replace(found, implied=alone or how == _OWN)


def by_innermost(folders: Sequence[tuple[str, ...]]) -> tuple[list[str | None], str, tuple[str, ...]]:
    """The label of each image, None of one that no class folder has, what the labels are, and what is to be said of it.

    Args:
        folders: in which each image lies, from the outermost.
    """
    remarks = []
    if all(len(parts) > 1 for parts in folders) and len({parts[0] for parts in folders}) == 1:
        below = {parts[1] for parts in folders}
        folders = [parts[1:] for parts in folders] if are_splits(below) else folders
    tops = {parts[0] for parts in folders if parts}
    if all(folders) and are_splits(tops):
        folders = [parts[1:] for parts in folders]
        if len(tops) > 1:
            remarks.append(f"{_several(tops)} at the top are splits, not classes, and all of them are read")
    how = "innermost folder"
    innermost = {parts[-1] for parts in folders if parts}
    if all(len(parts) > 1 for parts in folders) and (len(innermost) == 1 or are_splits(innermost)):
        above = [parts[:-1] for parts in folders]
        if len(set(above)) > 1 and not are_splits({parts[-1] for parts in above}):
            folders, how = above, f"the folder above {_several(innermost)}"
    elif shared := _inside_several(list(dict.fromkeys(folders))):
        inside = [parts[-1:] == (shared,) for parts in folders]
        folders = [parts[:-1] if within else parts for parts, within in zip(folders, inside, strict=True)]
        how = f"innermost folder, or the one above {shared}/"
        remarks.append(
            f"{inside.count(False):,} images lie beside {shared}/, not in it, and are read with those that do"
        )
    if not any(folders):
        how = _OWN
    remarks += _in_several(folders)
    return [parts[-1] if parts else None for parts in folders], how, tuple(remarks)


def _inside_several(folders: Sequence[tuple[str, ...]]) -> str | None:
    """The folder that classes have inside, where some of their images lie beside it."""
    if not all(folders):
        return None
    above: dict[str, set[str]] = {}
    for parts in folders:
        if len(parts) > 1:
            above.setdefault(parts[-1], set()).add(parts[-2])
    innermost = {parts[-1] for parts in folders}
    inner = [name for name in above if (name,) not in folders]  # one at the top is a class
    several = (name for name in inner if len(above[name]) > 1 and innermost - {name} <= above[name])
    return next(several, None)


def _in_several(folders: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """That folders of one name lie in several, a line."""
    above: dict[str, set[str]] = {}
    for parts in set(folders):
        above.setdefault(parts[-1] if parts else "", set()).add("/".join(parts[:-1]))
    for name in sorted(name for name, places in above.items() if name and len(places) > 1)[:1]:
        yield f"folders of one name are one class: {name}/ in {some(sorted(place or '.' for place in above[name]))}"


def are_splits(names: set[str]) -> bool:
    return bool(names) and {name.lower() for name in names} <= SPLITS


def _several(names: set[str]) -> str:
    return ", ".join(f"{name}/" for name in sorted(names))


def _synonyms(listing: Listing) -> tuple[tuple[Row, ...], str]:
    """What a file at the root calls the classes, and the file; a file of such a name may hold anything else."""
    for name in _CLASS_NAMES:
        if name in listing.files:
            try:
                return tuple(read_rows(name, listing.files[name].read())), name
            except DataError:
                continue
    return (), ""
