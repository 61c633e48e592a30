"""Parts: every chunk once, whole files only."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serving.batch.images import Part
from serving.batch.parts import METADATA, Parts
from serving.batch.places import Folder
from serving.batch.scoring import Scored
from serving.exceptions import OutputUnusable


def scored(number: int, *, slice_: int = 0, last: bool = False, final: bool = False) -> Scored:
    return Scored(Part(0, slice_), number, last, final, pa.table({"key": [f"{slice_}.{number}.{i}" for i in range(2)]}))


CHUNKS = [scored(0), scored(1), scored(2, last=True, final=True)]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_part_is_written_when_its_last_chunk_has_come_in_the_order_of_the_source(
    order: tuple[int, ...], tmp_path: Path
) -> None:
    parts = Parts(Folder(str(tmp_path)), {"job": 1})
    for i in order:
        assert not list(tmp_path.iterdir())
        assert parts.add(CHUNKS[i]) == 2
    written = pq.read_table(tmp_path / "part-00000-00000-last.parquet")
    assert written["key"].to_pylist() == [f"0.{n}.{i}" for n in range(3) for i in range(2)]
    assert json.loads(written.schema.metadata[METADATA]) == {"job": 1}


def test_a_chunk_that_comes_again_is_dropped_before_and_after_its_part_is_written(tmp_path: Path) -> None:
    parts = Parts(Folder(str(tmp_path)), {})
    assert [parts.add(chunk) for chunk in (*CHUNKS[:2], *CHUNKS, *CHUNKS)] == [2, 2, 0, 0, 2, 0, 0, 0]
    assert pq.read_metadata(tmp_path / "part-00000-00000-last.parquet").num_rows == 6
    parts.check_whole()


def test_reading_leaves_no_thread_of_arrow_behind(tmp_path: Path) -> None:
    """One that still held bytes of ours when the interpreter ended would abort the process."""
    Parts(Folder(str(tmp_path)), {}).add(scored(0, last=True, final=True))
    script = (
        "import sys, psutil; from serving.batch.parts import Parts; from serving.batch.places import Folder\n"
        "parts, before = Parts(Folder(sys.argv[1]), {}), psutil.Process().num_threads()\n"
        "assert [len(rows) for _, rows in parts.tables()] == [2]\n"
        "print(psutil.Process().num_threads() - before)"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"


def test_a_part_without_one_of_its_chunks_is_no_part(tmp_path: Path) -> None:
    parts = Parts(Folder(str(tmp_path)), {})
    parts.add(CHUNKS[0])
    parts.add(CHUNKS[2])
    with pytest.raises(OutputUnusable, match=r"rows are missing of 1 splits, the first part-00000-\*"):
        parts.check_whole()
    assert not list(tmp_path.iterdir())


def test_a_split_is_finished_when_all_parts_up_to_its_last_are_there(tmp_path: Path) -> None:
    parts = Parts(Folder(str(tmp_path)), {})
    parts.add(scored(0, slice_=2, last=True, final=True))
    parts.add(scored(0, slice_=0, last=True))
    assert parts.finished() == set()
    with pytest.raises(OutputUnusable, match="rows are missing of 1 splits"):
        parts.check_whole()
    parts.add(scored(0, slice_=1, last=True))
    assert parts.finished() == {0}
    parts.check_whole()
    again = Parts(Folder(str(tmp_path)), {})
    assert again.names == parts.names
    assert again.finished() == {0}
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "part-00000-00000.parquet",
        "part-00000-00001.parquet",
        "part-00000-00002-last.parquet",
    ]


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    (tmp_path / "part-00000-00000-last.parquet").write_bytes(b"half")
    with pytest.raises(OutputUnusable, match=r"part-00000-00000-last.parquet: can't be read .*; delete it"):
        list(Parts(Folder(str(tmp_path)), {}).tables())


@pytest.mark.parametrize("scheme", ["file", "local"])  # fsspec's name of the same, which it writes to as to any other
def test_an_output_may_be_a_url(scheme: str, tmp_path: Path) -> None:
    parts = Parts(Folder(f"{scheme}://{tmp_path}/deep/down/"), {})
    for chunk in CHUNKS:
        parts.add(chunk)
    assert [len(rows) for _, rows in Parts(Folder(f"{tmp_path}/deep/down"), {}).tables()] == [6]
    folder = Folder(f"{scheme}://{tmp_path}/deep/down")
    assert folder.names() == ["part-00000-00000-last.parquet"]
    folder.delete("part-00000-00000-last.parquet")
    folder.delete("part-00000-00000-last.parquet")
    assert not folder.names()
    assert not Folder(f"{scheme}://{tmp_path}/none").names()


def test_what_can_t_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    parts = Parts(Folder(str(tmp_path / "out")), {})
    (tmp_path / "out").touch()
    parts.add(CHUNKS[0])
    parts.add(CHUNKS[1])
    with pytest.raises(OutputUnusable, match="can't be written"):
        parts.add(CHUNKS[2])
