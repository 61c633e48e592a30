"""Parquet files of images, as bytes or as paths."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from serving.batch import places
from serving.batch.images import BATCH, Failure, Image, Wanted
from serving.exceptions import SourceUnusable

# The first that is there is taken where several columns may have the images, or the keys.
_IMAGES = (
    "image",
    "images",
    "img",
    "jpg",
    "png",
    "bytes",
    "content",
    "path",
    "file_path",
    "filepath",
    "file_name",
    "url",
)
_KEYS = ("key", "__key__", "id", "image_id", "file_name", "path", "url")


@dataclass(frozen=True)
class Columns:
    """Which columns have the images and their keys; without keys, an image's is its file and row."""

    image: str
    key: str | None


@dataclass(frozen=True)
class Rows:
    """A Parquet file, which is a split.

    Attributes:
        split, first, final: of :class:`serving.batch.images.Piece`.
        name: its path or URL.
        columns: of the images and keys.
        count: its rows.
    """

    split: int
    name: str
    columns: Columns
    count: int
    first: int = 0
    final: bool = True

    def images(self, wanted: Wanted) -> Iterator[Image]:
        """The images of its rows; those of a damaged row group, or of all of a damaged file, fail."""
        row = 0
        try:
            with _parquet(self.name) as file:
                for group in range(file.num_row_groups):
                    rows = range(row, row + file.metadata.row_group(group).num_rows)
                    yield from self._group(file, group, rows, wanted)
                    row = rows.stop
        except Exception as error:  # pyarrow and the plugins of file systems raise many kinds of errors
            yield from self._failed(range(row, self.count), error)

    def _group(self, file: pq.ParquetFile, group: int, rows: range, wanted: Wanted) -> Iterator[Image]:
        if not any(map(wanted, rows)):
            yield from (Image("", b"") for _ in rows)
            return
        read = [self.columns.image, *([self.columns.key] if self.columns.key else [])]
        row = rows.start
        try:
            for batch in file.iter_batches(batch_size=BATCH, row_groups=[group], columns=read, use_threads=False):
                for i in range(len(batch)):
                    yield self._image(batch, i, row)
                    row += 1
        except Exception as error:  # as above
            yield from self._failed(range(row, rows.stop), error)

    def _failed(self, rows: range, error: Exception) -> Iterator[Image]:
        for row in rows:
            yield Image(f"{self.name}/{row}", Failure("unreadable_file", f"its row group can't be read ({error})"))

    def _image(self, batch: pa.RecordBatch, i: int, row: int) -> Image:
        content = self._content(batch.column(self.columns.image)[i].as_py())
        if self.columns.key and (key := batch.column(self.columns.key)[i].as_py()) is not None:
            return Image(str(key), content)
        return Image(content if isinstance(content, str) else f"{self.name}/{row}", content)

    def _content(self, cell: Any) -> bytes | str | Failure:
        data, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, cell)
        if isinstance(data, bytes):
            return data
        if not path:
            return Failure("no_image", "there is no image in its cell")
        if places.is_url(path):
            return str(path)
        return posixpath.join(posixpath.dirname(self.name), str(path))


def columns_of(name: str, image: str | None, key: str | None) -> tuple[Columns, int]:
    """The columns of a file's images and keys, and how many rows it has.

    Args:
        name: its path or URL.
        image, key: columns that the user names; otherwise images are in the column of bytes, or else of texts, and keys in
            one that is called so.

    Raises:
        SourceUnusable: no Parquet file, no such column, or several that may have the images.
    """
    try:
        with _parquet(name) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
    except Exception as error:  # as above
        raise SourceUnusable(f"{name}: not a readable Parquet file ({error})") from error
    for wanted, option in ((image, "--image-column"), (key, "--key-column")):
        if wanted is not None and wanted not in schema.names:
            raise SourceUnusable(f"{name}: {option} {wanted}: expected one of its columns, {', '.join(schema.names)}")
    chosen = image or _guessed(name, schema)
    others = [column for column in _KEYS if column in schema.names and column != chosen]
    return Columns(chosen, key or next(iter(others), None)), rows


def _guessed(name: str, schema: pa.Schema) -> str:
    held = [field.name for field in schema if _holds_bytes(field.type)]
    candidates = held or [
        field.name for field in schema if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
    ]
    chosen = candidates if len(candidates) == 1 else [each for each in _IMAGES if each in candidates]
    if not chosen:
        raise SourceUnusable(
            f"{name}: which of its columns, {', '.join(schema.names)}, has the images? Say by --image-column"
        )
    return chosen[0]


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return bool(kind.get_field_index("bytes") >= 0)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


@contextmanager
def _parquet(name: str) -> Iterator[pq.ParquetFile]:
    """The file, of which no row group is held whole."""
    with places.opened(name) as file:
        yield pq.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20)
