"""Parquet files of images as bytes or paths, as datasets writes them: one, or the shards of a set.

An image is a binary cell, a path from the file's folder, or a record of ``bytes`` and ``path``. Labels are texts,
numbers whose names the schema's metadata has (ClassLabel), or lists of either. Row groups are read as they are used.
"""

from __future__ import annotations

import importlib
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from runtime.patterns import PARQUETS
from train.data.files import Extent
from train.data.index import Index, labelled, multilabelled, unlabelled
from train.data.labels.by_folder import are_splits
from train.data.labels.columns import Columns, choose, splits
from train.data.options import Reading
from train.data.report import Report, some
from train.exceptions import DataError

_HELD = 2  # row groups: threads that read one after another meet at the seam of two
_LARGEST = 2 * 10**9  # bytes of a row group


class _Groups:
    """The images of the row groups of some files, the last two held."""

    def __init__(self, column: str) -> None:
        self._column = column
        self._held: OrderedDict[tuple[str, int], list[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def cell(self, path: str, group: int, row: int) -> Any:
        """What the image's column has in a row, from any thread."""
        with self._lock:
            key = (path, group)
            if key not in self._held:
                with _open(Path(path)) as file:
                    self._held[key] = file.read_row_group(group, columns=[self._column]).column(0).to_pylist()
            self._held.move_to_end(key)
            while len(self._held) > _HELD:
                self._held.popitem(last=False)
            return self._held[key][row]


class Cell(NamedTuple):
    """The image of one row."""

    groups: _Groups
    path: str
    group: int
    row: int

    def read(self, limit: int | None = None) -> bytes:
        """The bytes, or the first `limit` of them.

        Raises:
            OSError: no image in the cell, no file at its path, or a damaged row group.
        """
        try:
            found = self.groups.cell(self.path, self.group, self.row)
        except Exception as error:  # pyarrow raises many kinds of errors on damaged bytes
            raise OSError(f"the row group is damaged or not read ({error})") from error
        data, where = (found.get("bytes"), found.get("path")) if isinstance(found, dict) else (found, found)
        if isinstance(data, bytes):
            return data[:limit]
        if not where:
            raise OSError("there is no image in its cell")
        return Extent(os.path.join(os.path.dirname(self.path), str(where))).read(limit)  # noqa: PTH118, PTH120  many


def takes(path: Path) -> bool:
    """By its name."""
    return path.is_file() and path.suffix.lower() in PARQUETS


def index(path: Path, reading: Reading, memory: int) -> Index:  # noqa: ARG001  what is read is what is used
    """The images of one file; errors as of :func:`of_shards`."""
    return of_shards(path, [path], reading)


def of_shards(path: Path, shards: Sequence[Path], reading: Reading) -> Index:
    """The images of several files of one schema, in order.

    Args:
        path: what they are shards of.
        shards: the files.
        reading: the columns, where the user names them.

    Raises:
        DataError: pyarrow is not installed, no readable Parquet, no column of images, other schemas, or a row group that
            memory can't be expected to hold.
    """
    with _open(shards[0]) as file:
        schema = file.schema_arrow
    columns = choose(str(path), schema.names, reading, _image_columns(schema))
    names: list[str] = []
    files: list[Cell] = []
    labels: list[Any] = []
    groups = _Groups(columns.path)
    for shard in shards:
        with _open(shard) as file:
            if (own := file.schema_arrow.names) != schema.names:
                raise DataError(
                    f"{shard}: expected the columns of {shards[0].name}, {some(schema.names)}; found {some(own)}"
                )
            for group in range(file.num_row_groups):
                count = _check_group(shard, file.metadata.row_group(group))
                names += [f"{shard.name}/{len(files) + row}" for row in range(count)]
                files += [Cell(groups, str(shard), group, row) for row in range(count)]
            if columns.label is not None:
                labels += file.read(columns=[columns.label]).column(0).to_pylist()
    if not files:
        raise DataError(f"{path}: no images; its Parquet files have no rows")
    index = _labelled(names, files, labels, columns, _class_names(schema, columns.label))
    remarks = [*_splits(shards), *splits(schema.names, columns, lambda name: _values(shards, name))]
    return replace(index, report=replace(index.report, remarks=(*index.report.remarks, *remarks)))


def _values(shards: Sequence[Path], column: str) -> Iterator[object]:
    for shard in shards:
        with _open(shard) as file:
            yield from file.read(columns=[column]).column(0).to_pylist()


def _splits(shards: Sequence[Path]) -> list[str]:
    """That files of several splits are read, if they are."""
    found = sorted({shard.name.partition("-")[0].partition(".")[0] for shard in shards})
    if len(found) < 2 or not are_splits(set(found)):
        return []
    return [f"{' and '.join(found)} are splits, and all of them are read; '{found[0]}-*.parquet' is one of them"]


def _labelled(
    names: list[str], files: list[Cell], labels: list[Any], columns: Columns, classes: Sequence[str] | None
) -> Index:
    report = Report(str(columns))
    lost = [name for name, label in zip(names, labels, strict=False) if label is None or label == -1]
    if lost and len(lost) < len(names):
        report = Report(
            str(columns), remarks=(f"taken as unlabelled, as {len(lost):,} rows have no label: {some(lost)}",)
        )
    if lost or columns.label is None:
        index = unlabelled(names, files, report)
        return Index(index.names, index.files, index.labels, (), report)
    if isinstance(labels[0], list):
        return multilabelled(names, files, [[_named(each, classes) for each in row] for row in labels], report)
    own = [_named(label, classes) for label in labels]
    return labelled(names, files, own, report, classes=None if classes is None else tuple(classes))


def _named(label: object, classes: Sequence[str] | None) -> str:
    if classes is not None and isinstance(label, int):
        if not 0 <= label < len(classes):
            raise DataError(f"label {label} is none of the {len(classes)} names in the schema's metadata")
        return classes[label]
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label).strip()


def _image_columns(schema: Any) -> list[str]:
    """The columns that hold images by their type; without any, those of texts."""
    held, texts = [], []
    for field in schema:
        kind = str(field.type)
        if kind in ("binary", "large_binary", "binary_view") or (kind.startswith("struct<") and "bytes:" in kind):
            held.append(field.name)
        elif kind in ("string", "large_string", "string_view"):
            texts.append(field.name)
    return held or texts


def _class_names(schema: Any, column: str | None) -> list[str] | None:
    """The names of a ClassLabel, from the metadata that datasets writes."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        feature = features[column]
        feature = feature[0] if isinstance(feature, list) else feature.get("feature", feature)
        return [str(name) for name in feature["names"]]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        return None


def _check_group(path: Path, group: Any) -> int:
    """How many rows it has."""
    if group.total_byte_size > _LARGEST:
        raise DataError(
            f"{path}: a row group of {group.total_byte_size / 1e9:.3g} GB would have to be held whole; write it again with "
            "row_group_size=100"
        )
    return int(group.num_rows)


def _open(path: Path) -> Any:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ModuleNotFoundError as error:
        raise DataError(f"{path}: reading Parquet needs pyarrow: pip install pyarrow") from error
    try:
        return parquet.ParquetFile(path)
    except Exception as error:  # pyarrow raises many kinds of errors on damaged bytes
        raise DataError(f"{path}: not a readable Parquet file ({error})") from error
