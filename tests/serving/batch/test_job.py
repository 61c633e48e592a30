"""A whole job: the rows of `oodgate run` bit for bit, resumed, refused, with outliers."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runtime.__main__ import main as run_images
from runtime.bundle import Bundle
from runtime.exceptions import EngineError, UnknownOperatingPoint
from runtime.gate import Gate
from serving.batch import job, places
from serving.batch.scoring import printable
from serving.exceptions import OutputUnusable, SourceUnusable
from tests.serving.batch.sources import DAMAGED, options, photos, rows, write_folder, write_shards, write_tar

Answer = dict[str, Any]


def as_answer(row: Answer) -> Answer:
    """A row as `oodgate run` says it."""
    if row["error"]:
        return {"file": row["key"], "error": {"code": row["error"], "message": row["message"]}}
    return {
        "file": row["key"],
        **{name: row[name] for name in ("decision", "reason", "label", "class_index", "confidence")},
        "score": {"value": row["score"], "threshold": row["threshold"], "p_value": row["p_value"]},
        "scores": {name.removeprefix("score_"): row[name] for name in row if name.startswith("score_")},
    }


def answers(
    bundle: Bundle, capsys: pytest.CaptureFixture[str], *paths: Path, alpha: float | None = None
) -> list[Answer]:
    """What `oodgate run` says, without what a row does not repeat."""
    more = [] if alpha is None else ["--alpha", str(alpha)]
    run_images([str(bundle.path), *map(str, paths), "--engine", "onnxruntime-cpu", *more])
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for answer in found:
        if "score" in answer:
            del answer["score"]["name"], answer["model"], answer["is_ood"]
    return found


class Broken(io.BytesIO):
    """A file of a bucket that answers no more where these bytes end."""

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if not data:
            raise OSError("503 Slow Down")
        return data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """150 images, three of them damaged; chunks of 64 are not even then."""
    return write_folder(tmp_path / "photos", photos(150, DAMAGED))


def test_the_rows_are_those_of_run_bit_for_bit(
    shared_bundle: Bundle, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = job.run(options(shared_bundle, tmp_path / "out", folder, rows=128, alpha=0.05, workers=3))
    expected = answers(shared_bundle, capsys, folder, alpha=0.05)
    assert [as_answer(row) for row in rows(tmp_path / "out")] == expected
    decided = [answer for answer in expected if "error" not in answer]
    assert done.summary.accepted == sum(answer["decision"] == "accept" for answer in decided) > 0
    assert done.summary.rejected == {"ood": len(decided) - done.summary.accepted}
    assert done.summary.errors == {"empty_image": 1, "not_an_image": 1, "undecodable_image": 1}
    assert (done.summary.images, done.scored) == (150, 150)


def test_shards_and_parquet_have_the_decisions_of_their_files(shared_bundle: Bundle, tmp_path: Path) -> None:
    files = photos(150, DAMAGED)
    write_shards(tmp_path / "shards", files, 75)
    pq.write_table(pa.table({"image": files[:75], "key": [f"k{i}" for i in range(75)]}), tmp_path / "0.parquet")
    pq.write_table(pa.table({"image": files[75:], "key": [f"k{i}" for i in range(75, 150)]}), tmp_path / "1.parquet")
    for part, start in (("a", 0), ("b", 75)):
        write_folder(tmp_path / part, files[start : start + 75])
        job.run(options(shared_bundle, tmp_path / f"out-{part}", tmp_path / part))
    expected = [{**row, "key": ""} for part in "ab" for row in rows(tmp_path / f"out-{part}")]
    for name, source in (("tars", tmp_path / "shards"), ("parquet", f"{tmp_path}/{{0..1}}.parquet")):
        job.run(options(shared_bundle, tmp_path / name, source, rows=64))
        found = rows(tmp_path / name)
        assert [{**row, "key": ""} for row in found] == expected
    assert [row["key"] for row in found] == [f"k{i}" for i in range(150)]


def test_a_job_that_was_stopped_goes_on(
    shared_bundle: Bundle, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    job.run(options(shared_bundle, whole, folder, rows=64))
    said = options(shared_bundle, out, folder, rows=64, workers=1)
    decide, calls = Gate.decide, iter(range(9))

    def failing(self: Gate, *images: Any, **more: Any) -> Any:
        if next(calls) == 1:
            raise EngineError("the power is off")
        return decide(self, *images, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Gate, "decide", failing)
        with pytest.raises(EngineError, match="the power is off"):
            job.run(said)
    assert len(rows(out)) == 64
    assert not (out / "_summary.json").exists()
    assert job.run(said).scored == 86
    assert rows(out) == rows(whole)
    again = job.run(said)
    assert (again.scored, again.summary.images) == (0, 150)
    (out / "part-00000-00001.parquet").unlink()
    assert job.run(said).scored == 64
    assert rows(out) == rows(whole)


@pytest.mark.parametrize("read", [20_000, 100_000])  # bytes, in the first part and in the second
def test_a_tar_that_breaks_off_where_rows_are_already_leaves_no_whole_output(
    read: int, shared_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tar = write_tar(tmp_path / "a.tar", {f"{i:03}.png": data for i, data in enumerate(photos(150))})
    whole, out = tmp_path / "whole", tmp_path / "out"
    job.run(options(shared_bundle, whole, tar, rows=64))
    said = options(shared_bundle, out, tar, rows=64)
    job.run(said)
    (out / "part-00000-00002-last.parquet").unlink()
    before = sorted(out.glob("*.parquet"))
    with monkeypatch.context() as patch:
        patch.setattr(places, "opened", lambda _: contextlib.nullcontext(Broken(tar.read_bytes()[:read])))
        with pytest.raises(OutputUnusable, match="rows are missing of 1 splits"):
            job.run(said)
    assert sorted(out.glob("*.parquet")) == before
    assert not (out / "_summary.json").exists()
    assert job.run(said).scored == 150 - 128
    assert rows(out) == rows(whole)


def test_a_finished_shard_is_not_opened_again(
    shared_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = write_shards(tmp_path / "shards", photos(100), 50)
    said = options(shared_bundle, tmp_path / "out", shards)
    job.run(said)
    (tmp_path / "out" / "part-00001-00000-last.parquet").unlink()
    opened: list[str] = []
    original = job.local.chunks
    monkeypatch.setattr(job.local, "chunks", lambda piece, *more: opened.append(piece.name) or original(piece, *more))
    assert job.run(said).scored == 50
    assert opened == [str(shards / "001.tar")]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"alpha": 0.05}, r"whose alpha was 0.1, and is 0.05 now"),
        ({"rows": 128}, r"whose rows of a part was 64, and is 128 now"),
        ({}, r"whose source was 150 images, SHA-256 .* now; choose another --out"),
    ],
)
def test_what_has_changed_is_refused_and_nothing_is_written(
    changed: dict[str, Any], said: str, shared_bundle: Bundle, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    first = options(shared_bundle, out, folder, rows=64)
    job.run(first)
    before = {file: file.read_bytes() for file in out.iterdir()}
    if not changed:
        (folder / "a" / "0000.png").write_bytes(photos(1, seed=9)[0])
    with pytest.raises(OutputUnusable, match=said):
        job.run(replace(first, **changed))
    assert {file: file.read_bytes() for file in out.iterdir()} == before


def test_another_bundle_is_refused(
    shared_bundle: Bundle, selective_bundle: Bundle, folder: Path, tmp_path: Path
) -> None:
    job.run(options(shared_bundle, tmp_path / "out", folder))
    with pytest.raises(OutputUnusable, match=r"whose model was [0-9a-f]{64}, and is [0-9a-f]{64} now"):
        job.run(options(selective_bundle, tmp_path / "out", folder))
    (tmp_path / "out" / "_job.json").unlink()
    with pytest.raises(OutputUnusable, match=r"has parts and no _job\.json"):
        job.run(options(shared_bundle, tmp_path / "out", folder))


def test_a_bound_on_the_error_has_its_reason_and_columns(
    selective_bundle: Bundle, folder: Path, tmp_path: Path
) -> None:
    done = job.run(options(selective_bundle, tmp_path / "out", folder))
    found = [row for row in rows(tmp_path / "out") if not row["error"]]
    uncertain = [row for row in found if row["reason"] == "uncertain"]
    assert done.summary.rejected["uncertain"] == len(uncertain) > 0
    assert all(row["selection"] < row["selection_threshold"] and row["score"] >= row["threshold"] for row in uncertain)


def test_outliers_are_marked_in_the_parts_and_can_be_asked_for_later(
    shared_bundle: Bundle, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    said = options(shared_bundle, out, folder, rows=64)
    job.run(said)
    assert {row["outlier"] for row in rows(out)} == {None}
    for q in (0.999, 0.9, 0.01):
        done = job.run(replace(said, fdr=q))
        assert done.scored == 0
        assert done.discovery is not None
        bound = done.discovery.threshold or 0
        found = rows(out)
        assert [row["outlier"] for row in found] == [None if row["error"] else row["p_value"] <= bound for row in found]
        assert done.discovery.tested == 147
        assert done.discovery.outliers == sum(bool(row["outlier"]) for row in found)
        assert (done.discovery.outliers > 0) == (q > 0.5)
        metadata = pq.read_schema(out / "part-00000-00002-last.parquet").metadata[b"oodgate"]
        assert json.loads(metadata)["fdr"] == vars(done.discovery)
        assert json.loads((out / "_summary.json").read_text())["fdr"] == vars(done.discovery)


def test_outliers_of_other_rows_than_those_that_are_there_are_taken_back(
    shared_bundle: Bundle, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    said = options(shared_bundle, out, folder, rows=64)
    job.run(replace(said, fdr=0.9))
    job.run(said)  # nothing is scored, so that they stay
    assert any(row["outlier"] for row in rows(out))
    assert json.loads((out / "_summary.json").read_text())["fdr"]["q"] == 0.9
    (out / "part-00000-00001.parquet").unlink()
    job.run(said)
    assert {row["outlier"] for row in rows(out)} == {None}
    assert "fdr" not in json.loads((out / "_summary.json").read_text())
    job.run(replace(said, fdr=0.9))
    file = out / "part-00000-00000.parquet"
    before = file.read_bytes()
    job.run(replace(said, fdr=0.8))
    file.write_bytes(before)  # as if it had been stopped when it began to mark
    job.run(said)
    assert {row["outlier"] for row in rows(out)} == {None}


def test_what_fails_early_leaves_nothing(shared_bundle: Bundle, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UnknownOperatingPoint):
        job.run(options(shared_bundle, out, folder, alpha=0.03))
    with pytest.raises(EngineError, match="engine tensorrt"):
        job.run(options(shared_bundle, out, folder, backend="tensorrt"))
    assert not out.exists()
    nothing = write_tar(tmp_path / "none.tar", {"a.txt": b"x"})
    with pytest.raises(SourceUnusable, match=r"none\.tar: no images in these 1 tars"):
        job.run(options(shared_bundle, out, nothing))


@pytest.fixture
def bucket() -> Iterator[Any]:
    memory = fsspec.filesystem("memory")
    yield memory
    memory.store.clear()


def test_from_bucket_to_bucket(shared_bundle: Bundle, folder: Path, tmp_path: Path, bucket: Any) -> None:
    job.run(options(shared_bundle, tmp_path / "out", folder))
    for file in folder.rglob("*.png"):
        bucket.pipe_file(f"/in/{file.relative_to(folder)}", file.read_bytes())
    said = options(shared_bundle, "memory://results/out", "memory://in", fdr=0.9)
    job.run(replace(said, fdr=None))
    done = job.run(said)
    assert (done.scored, done.summary.images) == (0, 150)
    table = pq.read_table(pa.BufferReader(bucket.cat_file("/results/out/part-00000-00000-last.parquet")))
    here = rows(tmp_path / "out")
    assert [{**row, "key": "", "outlier": None} for row in table.to_pylist()] == [{**row, "key": ""} for row in here]


def test_names_that_are_no_text_are_written_as_they_can_be(shared_bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    (folder / name).write_bytes(photos(1)[0])
    job.run(options(shared_bundle, tmp_path / "out", folder))
    assert [row["key"] for row in rows(tmp_path / "out")] == [f"{folder}/caf\\xe9.png"]
    assert printable("café") == "café"


def test_a_file_that_went_away_is_a_row(shared_bundle: Bundle, folder: Path, tmp_path: Path) -> None:
    (folder / "a" / "0000.png").unlink()
    (folder / "a" / "0000.png").symlink_to("nowhere")
    done = job.run(options(shared_bundle, tmp_path / "out", folder))
    assert done.summary.errors["unreadable_file"] == 1
    assert rows(tmp_path / "out")[0]["message"] == "No such file or directory"
