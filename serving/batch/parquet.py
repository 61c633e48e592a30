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

ENDINGS = (".parquet", ".pq")
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
    """

    split: int
    name: str
    columns: Columns
    first: int = 0
    final: bool = True

    def images(self, wanted: Wanted) -> Iterator[Image]:
        """The images of its rows; of a damaged file those before the damage, and one more that fails for it."""
        row = 0
        try:
            with _parquet(self.name) as file:
                read = [self.columns.image, *([self.columns.key] if self.columns.key else [])]
                for batch in file.iter_batches(batch_size=BATCH, columns=read):
                    for i in range(len(batch)):
                        yield self._image(batch, i, row) if wanted(row) else Image("", b"")
                        row += 1
        except Exception as error:  # pyarrow and the plugins of file systems raise many kinds of errors
            yield Image(self.name, Failure("unreadable_shard", f"the file can't be read from row {row:,} on ({error})"))

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
