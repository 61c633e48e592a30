"""What a SOURCE is: directories, files, patterns, tars, Parquet; by path and by URL."""

from __future__ import annotations

import io
import os
import tarfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runtime.exceptions import OodgateError
from runtime.folder import images
from serving.batch import places
from serving.batch.images import Failure, Image, Piece
from serving.batch.sources import Source, open_source
from serving.exceptions import SourceUnusable
from tests.serving.batch.sources import photos, write_folder, write_shards, write_tar


def read(*splits: Piece) -> list[Image]:
    return [image for split in splits for image in split.images(lambda _: True)]


def keys(source: Source) -> list[str]:
    return [image.key for image in read(*source.splits)]


@pytest.mark.parametrize("name", ["weird://bucket/a.jpg", "github://x/y.jpg", "a\0b.jpg", "memory://nowhere/a.jpg"])
def test_a_name_that_nobody_can_open_is_one_that_can_t_be_read(name: str) -> None:
    with pytest.raises(OSError):  # noqa: PT011  which a row of the output tells, whatever it says
        places.read(name, 10)


def test_a_pattern_finds_each_file_once(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "x" / "x", photos(2))
    found = places.matching(f"{tmp_path}/**/x/**/*.png")
    assert [each.name for each in found] == sorted(str(path) for path in folder.rglob("*.png"))


def test_a_directory_is_its_images_in_the_order_of_run(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "photos", photos(6))
    (folder / "a-b").mkdir()  # before a/ as texts, after it as paths
    (folder / "a-b" / "x.png").write_bytes(photos(1)[0])
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "astray.png").symlink_to("nowhere")
    source = open_source([str(folder)])
    assert keys(source) == images(folder)
    assert (source.kind, source.files, source.images) == ("images", 8, 8)


def test_patterns_and_ranges(tmp_path: Path) -> None:
    write_folder(tmp_path, photos(6))
    assert keys(open_source([f"{tmp_path}/a/", f"{tmp_path}/./a/0000.png", f"{tmp_path}//a/*.png"])) == [
        f"{tmp_path}//a/{i:04}.png" for i in range(3)
    ]
    assert keys(open_source([f"{tmp_path}/a/*.png"])) == [f"{tmp_path}/a/{i:04}.png" for i in range(3)]
    assert keys(open_source([f"{tmp_path}/**/*.png"])) == images(tmp_path)
    assert keys(open_source([f"{tmp_path}/b/{{0003..0005}}.png"])) == [f"{tmp_path}/b/{i:04}.png" for i in (3, 4, 5)]
    (tmp_path / "photo[1].png").write_bytes(b"")
    assert keys(open_source([f"{tmp_path}/photo[1].png"])) == [f"{tmp_path}/photo[1].png"]


@pytest.mark.parametrize("scheme", ["", "file://"])
@pytest.mark.parametrize(("name", "others"), [("x[1]", ["x1"]), ("x{1..2}", ["x1", "x2"]), ("x?", ["x1"])])
def test_what_is_called_like_a_pattern_is_itself_where_it_is_there(
    name: str, others: list[str], scheme: str, tmp_path: Path
) -> None:
    for each in (name, *others):
        for ending in ("tar", "TAR"):
            write_tar(tmp_path / each / f"{ending}s.{ending}", {f"of {each}.png": b"x"})
        write_tar(tmp_path / each / "._tars.tar", {"hidden.png": b"x"})
        write_tar(tmp_path / f"{each}.tar", {f"{each} alone.png": b"x"})
    found = keys(open_source([f"{scheme}{tmp_path}/{name}"]))
    assert found == [f"{scheme}{tmp_path}/{name}/{ending}s.{ending}/of {name}.png" for ending in ("TAR", "tar")]
    assert keys(open_source([f"{scheme}{tmp_path}/{name}.tar"])) == [f"{scheme}{tmp_path}/{name}.tar/{name} alone.png"]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_tars_of_any_compression(tmp_path: Path, mode: str) -> None:
    files = photos(3)
    name = write_tar(
        tmp_path / f"a.tar{mode[1:].replace(':', '.')}",
        {"./1.png": files[0], "1.cls": b"0", "d/2.png": files[1], "._3.png": b""},
        mode,
    )
    source = open_source([str(name)])
    assert read(*source.splits) == [Image(f"{name}/1.png", files[0]), Image(f"{name}/d/2.png", files[1])]
    assert (source.kind, source.images) == ("tars", None)


def test_shards_of_a_directory_and_of_a_range(tmp_path: Path) -> None:
    write_shards(tmp_path, photos(10), 4)
    whole = open_source([str(tmp_path)])
    assert keys(whole) == [f"{tmp_path}/{i // 4:03}.tar/{i:04}.png" for i in range(10)]
    assert open_source([f"{tmp_path}/{{000..002}}.tar"]) == whole
    assert keys(open_source([f"{tmp_path}/{{001..002}}.tar"])) == keys(whole)[4:]


@pytest.mark.parametrize("cut", [200, 512, 1500, 2048])
def test_a_cut_tar_has_its_images_and_one_that_fails(tmp_path: Path, cut: int) -> None:
    files = photos(4)
    name = write_tar(tmp_path / "a.tar", {f"{i}.png": data for i, data in enumerate(files)})
    name.write_bytes(name.read_bytes()[:cut])
    *whole, last = read(*open_source([str(name)]).splits)
    assert whole == [Image(f"{name}/{i}.png", files[i]) for i in range(len(whole))]
    assert len(whole) == cut // 1024
    assert last.key == str(name)
    assert isinstance(last.content, Failure)
    assert last.content.code == "unreadable_shard"


def test_links_and_giants_in_a_tar_fail_by_themselves(tmp_path: Path) -> None:
    name = tmp_path / "a.tar"
    with tarfile.open(name, "w") as tar:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "1.png"
        tar.addfile(link)
        giant = tarfile.TarInfo("giant.png")
        giant.size = 21 << 20
        tar.addfile(giant, io.BytesIO(bytes(giant.size)))
    contents = [image.content for image in read(*open_source([str(name)]).splits)]
    assert [one.code for one in contents if isinstance(one, Failure)] == ["unreadable_file", "image_too_large"]


def test_parquet_of_bytes_paths_and_records(tmp_path: Path) -> None:
    files = photos(3)
    records = [{"bytes": files[0], "path": "x.png"}, {"bytes": None, "path": "d/y.png"}, None]
    for name, columns, expected in (
        ("bytes", {"label": [1, 2, 3], "jpg": files}, [(f"{tmp_path}/bytes.parquet/{i}", files[i]) for i in range(3)]),
        ("keyed", {"id": [7, 8, None], "data": files},
         [("7", files[0]), ("8", files[1]), (f"{tmp_path}/keyed.parquet/2", files[2])]),
        ("paths", {"file_name": ["d/1.png", "/abs/2.png", "s3://b/3.png"], "label": ["a", "b", "c"]},
         [(where, where) for where in (f"{tmp_path}/d/1.png", "/abs/2.png", "s3://b/3.png")]),
        ("records", {"image": records}, [
            (f"{tmp_path}/records.parquet/0", files[0]), (f"{tmp_path}/d/y.png", f"{tmp_path}/d/y.png"),
            (f"{tmp_path}/records.parquet/2", Failure("no_image", "there is no image in its cell")),
        ]),
    ):  # fmt: skip
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet", row_group_size=2)
        source = open_source([f"{tmp_path}/{name}.parquet"])
        assert read(*source.splits) == [Image(*each) for each in expected], name
        assert (source.kind, source.images) == ("Parquet files", 3)


def test_columns_that_are_named_and_those_that_must_be(tmp_path: Path) -> None:
    files = photos(2)
    name = str(tmp_path / "a.parquet")
    pq.write_table(pa.table({"left": files, "right": files[::-1], "who": ["x", "y"]}), name)
    with pytest.raises(SourceUnusable, match="which of its columns, left, right, who, has the images"):
        open_source([name])
    with pytest.raises(SourceUnusable, match="--image-column up: expected one of its columns, left, right, who"):
        open_source([name], image="up")
    assert read(*open_source([name], image="right", key="who").splits) == [Image("x", files[1]), Image("y", files[0])]


def test_the_rows_of_a_damaged_row_group_fail_and_no_others(tmp_path: Path) -> None:
    name = tmp_path / "a.parquet"
    files = [os.urandom(4000) for _ in range(6)]
    pq.write_table(pa.table({"image": files}), name, row_group_size=2, compression="none", use_dictionary=False)
    at = pq.read_metadata(name).row_group(1).column(0).data_page_offset
    data = bytearray(name.read_bytes())
    data[at : at + 40] = b"\xff" * 40
    name.write_bytes(data)
    found = read(*open_source([str(name)]).splits)
    assert [image.key for image in found] == [f"{name}/{i}" for i in range(6)]
    assert [image.content for image in (*found[:2], *found[4:])] == [*files[:2], *files[4:]]
    for image in found[2:4]:
        assert isinstance(image.content, Failure)
        assert "its row group can't be read" in image.content.message


def test_urls_are_read_as_paths_are(tmp_path: Path) -> None:
    files = photos(5)
    memory = fsspec.filesystem("memory")
    for i, data in enumerate(files):
        memory.pipe_file(f"/set/{'b' if i else 'a-'}/{i}.png", data)
    memory.pipe_file("/set/.cache/x.png", b"")
    memory.pipe_file("/shards/0.tar", write_tar(tmp_path / "0.tar", {"1.png": files[0]}).read_bytes())
    try:
        below = [f"memory:///set/{'b' if i else 'a-'}/{i}.png" for i in range(5)]
        for name, expected in (
            ("memory://set", below),
            ("memory://set/b/*.png", below[1:]),
            ("memory://set/b/3.png", below[3:4]),
        ):
            assert [Path(key).name for key in keys(open_source([name]))] == [Path(key).name for key in expected]
        assert [image.content for image in read(*open_source(["memory://shards"]).splits)] == files[:1]
        before = open_source(["memory://set"]).digest
        memory.pipe_file("/set/b/3.png", files[3])
        assert open_source(["memory://set"]).digest != before
    finally:
        memory.store.clear()


def test_a_range_of_a_server_that_forbids_what_is_not_there(tmp_path: Path) -> None:
    """As S3 does over https where listing is not allowed."""

    class Forbidding(SimpleHTTPRequestHandler):
        def do_HEAD(self) -> None:
            if self._is_there():
                super().do_HEAD()

        def do_GET(self) -> None:
            if self._is_there():
                super().do_GET()

        def _is_there(self) -> bool:
            there = Path(self.translate_path(self.path)).is_file()
            if not there:
                self.send_error(403)
            return there

        def log_message(self, *_: object) -> None:
            pass

    write_shards(tmp_path, photos(4), 2)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Forbidding, directory=str(tmp_path))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        name = f"http://127.0.0.1:{server.server_port}/{{000..001}}.tar"
        assert keys(open_source([name])) == [f"{name[:-14]}{i // 2:03}.tar/{i:04}.png" for i in range(4)]
        server.shutdown()


def test_files_that_are_no_images_are_said_where_there_are_images(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "oodgate")
    write_shards(tmp_path, photos(4), 2)
    assert open_source([str(tmp_path)]).kind == "tars"
    assert not caplog.messages
    (tmp_path / "one.png").write_bytes(b"")
    assert open_source([str(tmp_path)]).kind == "images"
    assert f"{tmp_path}: passed over, by their endings: 2 files, such as {tmp_path}/" in caplog.text


def test_a_digest_is_of_names_sizes_and_times(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, photos(4))
    first = open_source([str(folder)]).digest
    assert open_source([str(folder)]).digest == first
    os.utime(folder / "a" / "0000.png", (1, 1))
    second = open_source([str(folder)]).digest
    (folder / "a" / "0000.png").rename(folder / "a" / "00.png")
    assert len({first, second, open_source([str(folder)]).digest}) == 3


def test_a_range_that_counts_down() -> None:
    with pytest.raises(OodgateError, match=r"\{3\.\.1\}\.tar: the pattern \{3\.\.1\} counts down"):
        open_source(["{3..1}.tar"])


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["none"], "none: no such file or folder"),
        (["*.jpg"], "no images, tars or Parquet files"),
        (["empty"], "no images, tars or Parquet files"),
        (["a.png", "b.tar"], "images and tars are scored apart"),
        (["broken.parquet"], "not a readable Parquet file"),
        (["nowhere://x"], "fsspec can't open it"),
        (["memory://none/x.png"], "no such file or folder"),
    ],
)
def test_what_is_no_source_is_said_in_a_line(
    names: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for name in ("a.png", "b.tar", "broken.parquet"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(SourceUnusable, match=said):
        open_source(names)


def test_columns_are_parquet_s(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, photos(1))
    with pytest.raises(SourceUnusable, match="--image-column and --key-column name columns of Parquet files"):
        open_source([str(folder)], key="id")
