"""What is to be scored: a directory, files, patterns of them, tars or Parquet files, as splits that are read on their own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime import patterns
from serving.batch import places
from serving.batch.images import Image, Part, Piece, Wanted
from serving.batch.places import Found
from serving.batch.sources import parquet, tars
from serving.exceptions import SourceUnusable


@dataclass(frozen=True)
class Files:
    """A stretch of a list of image files; the whole list is one split.

    Attributes:
        split, first, final: of :class:`serving.batch.images.Piece`.
        names: paths or URLs.
    """

    names: tuple[str, ...]
    split: int = 0
    first: int = 0
    final: bool = True

    def images(self, wanted: Wanted) -> Iterator[Image]:  # noqa: ARG002  nothing is read yet
        """The images, read when they are decoded."""
        return (Image(name, name) for name in self.names)


@dataclass(frozen=True)
class Source:
    """What is to be scored.

    Attributes:
        kind: of files, in the plural.
        files: how many.
        digest: SHA-256 of their names, sizes and times.
        splits: each read on its own.
        counts: how many images each split has; None where reading it tells.
    """

    kind: str
    files: int
    digest: str
    splits: tuple[Piece, ...]
    counts: tuple[int | None, ...]

    def pieces(self, images: int) -> Iterator[Piece]:
        """The splits as what may be read at the same time: a shard as it is, a list of files by so many.

        Args:
            images: a multiple of 64.
        """
        for split in self.splits:
            if not isinstance(split, Files):
                yield split
                continue
            for first in range(0, len(split.names), images):
                names = split.names[first : first + images]
                yield Files(names, first=first, final=first + len(names) == len(split.names))

    def images_of(self, part: Part, rows: int) -> int:
        """How many images a part has; as many as it may have, where reading tells."""
        count = self.counts[part.split]
        return rows if count is None else max(0, min(rows, count - part.slice * rows))

    @property
    def images(self) -> int | None:
        """How many there are in all; None where reading tells."""
        known = [count for count in self.counts if count is not None]
        return sum(known) if len(known) == len(self.counts) else None


def open_source(names: Sequence[str], *, image: str | None = None, key: str | None = None) -> Source:
    """List what there is, without reading it.

    Args:
        names: directories, files, patterns (``photos/**/*.jpg``, ``shards/{000..119}.tar``), as paths or URLs; of one kind.
        image, key: columns of Parquet files.

    Raises:
        OodgateError: a range that counts down.
        SourceUnusable: no such source, nothing in it, or of several kinds.
    """
    each_once = {_place(each.name): each for name in names for each in _found(name)}  # patterns may share files
    found = list(each_once.values())
    title = ", ".join(names)
    if not found:
        raise SourceUnusable(
            f"{title}: no images, tars or Parquet files; expected a directory, files or a pattern of them"
        )
    listed = [each.name for each in found]
    kinds = {_kind(name) for name in listed}
    if len(kinds) > 1:
        raise SourceUnusable(f"{title}: {' and '.join(sorted(kinds))} are scored apart, each to an --out of their own")
    kind, digest = kinds.pop(), _digest(found)
    if kind != "Parquet files" and (image or key):
        raise SourceUnusable(f"--image-column and --key-column name columns of Parquet files; {title} are {kind}")
    if kind == "images":
        return Source(kind, len(found), digest, (Files(tuple(listed)),), (len(listed),))
    if kind == "tars":
        splits = tuple(tars.Tar(split, name) for split, name in enumerate(listed))
        return Source(kind, len(found), digest, splits, (None,) * len(splits))
    columns = [parquet.columns_of(name, image, key) for name in listed]
    rows = tuple(
        parquet.Rows(split, name, own, count)
        for split, (name, (own, count)) in enumerate(zip(listed, columns, strict=True))
    )
    return Source(kind, len(found), digest, rows, tuple(count for _, count in columns))


def _place(name: str) -> str:
    """One name of a file that may be named in several ways."""
    return name if places.is_url(name) else str(Path(name).absolute())


def _found(name: str) -> list[Found]:
    """What a name stands for: on a disk a folder or file that is called so, or else what it describes."""
    path = name.removeprefix("file://")
    itself = not places.is_url(path) and Path(path).exists()
    if not itself and (names := patterns.numbered(name)):
        return [each for one in names for each in _found(one)]
    if places.is_folder(name):
        return places.images_below(name) or places.files_in(name, ".tar") or places.files_in(name, ".parquet")
    return places.matching(name) if patterns.is_wild(name) and not itself else [places.find(name)]


def _kind(name: str) -> str:
    if name.lower().endswith(patterns.TARS):
        return "tars"
    return "Parquet files" if name.lower().endswith(patterns.PARQUETS) else "images"


def _digest(found: Sequence[Found]) -> str:
    digest = hashlib.sha256()
    for each in found:
        digest.update(f"{each.name}\0{each.bytes}\0{each.stamp}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
