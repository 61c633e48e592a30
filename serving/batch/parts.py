"""The output: Parquet files, each with the rows of one slice of the source, written whole when all of them are there."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from serving.batch.images import Part
from serving.batch.places import Folder
from serving.batch.scoring import Scored
from serving.exceptions import OutputUnusable

METADATA = b"oodgate"
_NAME = re.compile(r"part-(\d{5,})-(\d{5,})(-last)?\.parquet")


@dataclass
class _Unfinished:
    """The chunks of a part that have come, by their numbers, and how many there are once that is known."""

    chunks: dict[int, pa.Table] = field(default_factory=dict)
    count: int | None = None
    final: bool = False


class Parts:
    """The parts of an output.

    Chunks may come in any order, and more than once: a part takes each of its chunks once, and is written when it has all.

    Args:
        folder: where they are written.
        metadata: what every file says of the job.

    Attributes:
        names: of the files that are there, by part.
    """

    def __init__(self, folder: Folder, metadata: Mapping[str, Any]) -> None:
        self._folder = folder
        self._metadata = dict(metadata)
        self._unfinished: dict[Part, _Unfinished] = {}
        matches = (_NAME.fullmatch(name) for name in folder.names())
        self.names = {Part(int(one[1]), int(one[2])): one[0] for one in matches if one}

    def finished(self) -> set[int]:
        """The splits whose last part is there, and all before it."""
        last = {part.split: part.slice for part, name in self.names.items() if "-last" in name}
        return {split for split, end in last.items() if all(Part(split, slice_) in self.names for slice_ in range(end))}

    def add(self, scored: Scored) -> int:
        """Take the rows of a chunk, and write its part if they are the last of it; how many rows are new."""
        if scored.part in self.names:
            return 0
        part = self._unfinished.setdefault(scored.part, _Unfinished())
        if scored.number in part.chunks:
            return 0
        part.chunks[scored.number] = scored.rows
        if scored.last:
            part.count, part.final = scored.number + 1, scored.final
        if part.count == len(part.chunks):
            self._write(scored.part, self._unfinished.pop(scored.part))
        return len(scored.rows)

    def check_whole(self) -> None:
        """Check that every split of which there is anything is finished.

        Raises:
            OutputUnusable: one is not: a chunk of it was lost, or it broke off inside a part that was there already.
        """
        lacking = {part.split for part in (*self.names, *self._unfinished)} - self.finished()
        if lacking:
            raise OutputUnusable(
                f"{self._folder.name}: rows are missing of {len(lacking)} splits, the first part-{min(lacking):05}-*; "
                "run the command again when they can be read"
            )

    def tables(self, columns: list[str] | None = None) -> Iterator[tuple[Part, pa.Table]]:
        """The parts in order, one in memory at a time.

        Raises:
            OutputUnusable: a file is damaged.
        """
        for part in sorted(self.names):
            yield part, self._read(part, columns)

    def replace(self, part: Part, rows: pa.Table) -> None:
        """Write a part again, whatever metadata `rows` have."""
        self._folder.write(self.names[part], _parquet(rows))

    def _read(self, part: Part, columns: list[str] | None) -> pa.Table:
        name = self.names[part]
        try:
            # No threads of Arrow's: one that lets go of our bytes as the interpreter ends aborts the process.
            file = pq.ParquetFile(io.BytesIO(self._folder.read(name)), pre_buffer=False)
            return file.read(columns=columns, use_threads=False)
        except Exception as error:  # pyarrow and the plugins of file systems raise many kinds of errors
            raise OutputUnusable(
                f"{self._folder.name}/{name}: can't be read ({error}); delete it and run the command again"
            ) from error

    def _write(self, part: Part, found: _Unfinished) -> None:
        rows = pa.concat_tables([found.chunks[number] for number in sorted(found.chunks)])
        name = f"part-{part.split:05}-{part.slice:05}{'-last' if found.final else ''}.parquet"
        self._folder.write(name, _parquet(with_metadata(rows, self._metadata)))
        self.names[part] = name


def with_metadata(rows: pa.Table, added: Mapping[str, Any]) -> pa.Table:
    """A table whose metadata says this too."""
    return rows.replace_schema_metadata({METADATA: json.dumps({**said_by(rows), **added})})


def said_by(rows: pa.Table) -> dict[str, Any]:
    """What a table's metadata says."""
    return dict(json.loads((rows.schema.metadata or {}).get(METADATA, b"{}")))


def _parquet(rows: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(rows.combine_chunks(), buffer, compression="zstd")
    return buffer.getvalue()
