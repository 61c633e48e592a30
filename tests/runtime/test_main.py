"""``python -m runtime``: a line a file, and no traceback whatever is given."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime import Bundle, Gate, OodgateError
from runtime.__main__ import main
from tests.small import calibration_images, encode

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with images at two depths, and what is no image."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    images = calibration_images(3, seed=5)
    (folder / "b.png").write_bytes(encode(images[0]))
    (folder / "a.JPG").write_bytes(encode(images[1], "JPEG"))
    (folder / "sub/c.tif").write_bytes(encode(images[2], "TIFF"))
    (folder / "notes.txt").write_text("not an image, and not named like one")
    return folder


def answers(bundle: Bundle, *paths: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[dict[str, Any]]]:
    """The exit status and the lines of one command."""
    status = main([str(bundle.path), "--threads", "1", *map(str, paths)])
    return status, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "runtime", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_a_line_is_the_file_and_its_decision(
    shared_bundle: Bundle, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, lines = answers(shared_bundle, photos / "b.png", capsys=capsys)
    (decision,) = Gate.load(shared_bundle.path, threads=1).decide([photos / "b.png"])
    assert (status, lines) == (0, [{"file": str(photos / "b.png"), **decision.to_dict()}])


def test_a_folder_is_searched_for_images_in_order(
    shared_bundle: Bundle, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, lines = answers(shared_bundle, photos, capsys=capsys)
    assert status == 0
    assert [line["file"] for line in lines] == [str(photos / name) for name in ("a.JPG", "b.png", "sub/c.tif")]


def test_a_folder_named_like_an_image_is_a_folder(
    shared_bundle: Bundle, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "sub").rename(photos / "sub.png")
    status, lines = answers(shared_bundle, photos, capsys=capsys)
    assert status == 0
    assert [Path(line["file"]).name for line in lines] == ["a.JPG", "b.png", "c.tif"]


def test_files_are_answered_in_the_order_given(
    shared_bundle: Bundle, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [photos / "b.png", photos / "sub", photos / "a.JPG"]
    _, lines = answers(shared_bundle, *given, capsys=capsys)
    assert [Path(line["file"]).name for line in lines] == ["b.png", "c.tif", "a.JPG"]


def test_a_file_named_otherwise_is_read_when_it_is_named(
    shared_bundle: Bundle, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = (photos / "b.png").rename(photos / "b.data")
    assert answers(shared_bundle, file, capsys=capsys)[1][0]["decision"] in ("accept", "reject")


@pytest.mark.parametrize(
    ("data", "code"),
    [(b"", "empty_image"), (b"text", "not_an_image"), (encode(calibration_images(1)[0])[:-30], "undecodable_image")],
    ids=["empty", "text", "cut"],
)
def test_an_unusable_file_gets_its_error_and_status_1(
    shared_bundle: Bundle, photos: Path, capsys: pytest.CaptureFixture[str], data: bytes, code: str
) -> None:
    (photos / "aa.png").write_bytes(data)
    status, lines = answers(shared_bundle, photos, capsys=capsys)
    assert status == 1
    assert ["error" in line for line in lines] == [False, True, False, False]
    assert lines[1]["file"] == str(photos / "aa.png")
    assert lines[1]["error"]["code"] == code
    assert lines[1]["error"]["message"]


def test_a_missing_file_gets_its_error(shared_bundle: Bundle, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, lines = answers(shared_bundle, photos / "nowhere.png", photos / "b.png", capsys=capsys)
    assert (status, len(lines)) == (1, 2)
    assert lines[0]["error"] == {"code": "unreadable_file", "message": "No such file or directory"}


def test_more_files_than_a_batch_are_all_answered(
    shared_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = calibration_images(150, seed=6)
    for number, image in enumerate(images):
        (tmp_path / f"{number:03}.png").write_bytes(encode(image))
    _, lines = answers(shared_bundle, tmp_path, capsys=capsys)
    expected = Gate.load(shared_bundle.path, threads=1).decide(images)
    np.testing.assert_allclose([line["score"]["value"] for line in lines], [d.score.value for d in expected], rtol=1e-5)


def test_a_folder_without_images_is_an_error(shared_bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(OodgateError, match=rf"no images in {re.escape(str(tmp_path))}; expected .*\.bmp, \.gif"):
        main([str(shared_bundle.path), str(tmp_path)])


def test_as_a_command(shared_bundle: Bundle, photos: Path) -> None:
    run = command(shared_bundle.path, photos)
    assert run.returncode == 0
    assert run.stderr.startswith("engine ")
    assert (
        run.stderr.splitlines()[-1]
        == f"{photos}: passed over, by their endings: 1 file, such as {photos / 'notes.txt'}"
    )
    assert [json.loads(line)["model"]["name"] for line in run.stdout.splitlines()] == ["small"] * 3


def test_a_damaged_bundle_is_one_line_and_status_1(bundle_dir: Path, photos: Path) -> None:
    (bundle_dir / "model.onnx").write_bytes(b"edited")
    run = command(bundle_dir, photos)
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith(f"error: {bundle_dir / 'model.onnx'}: expected ")
    assert run.stderr.count("\n") == 1


def test_a_missing_bundle_is_one_line_and_status_1(tmp_path: Path) -> None:
    run = command(tmp_path / "nowhere", tmp_path)
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith("error: ")
    assert run.stderr.count("\n") == 1


def test_missing_arguments_are_usage_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == 2
    assert "usage: python -m runtime" in capsys.readouterr().err


def test_a_reader_that_goes_away_ends_it_without_a_traceback(shared_bundle: Bundle, tmp_path: Path) -> None:
    data = encode(calibration_images(1)[0])
    for number in range(200):  # more lines than a pipe buffers
        (tmp_path / f"{number}.png").write_bytes(data)
    with subprocess.Popen(
        [sys.executable, "-m", "runtime", str(shared_bundle.path), str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read().count(b"\n") == 1  # which engine
        assert process.wait(30) != 0


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.1])
def test_an_operating_point(
    shared_bundle: Bundle, photos: Path, capsys: pytest.CaptureFixture[str], alpha: float
) -> None:
    assert shared_bundle.manifest.gate is not None
    _, lines = answers(shared_bundle, photos, Path("--alpha"), Path(str(alpha)), capsys=capsys)
    expected = shared_bundle.manifest.gate.at(alpha).threshold
    assert {np.float32(line["score"]["threshold"]) for line in lines} == {np.float32(expected)}


def test_an_operating_point_that_is_not_stored(bundle_dir: Path, photos: Path) -> None:
    run = command(bundle_dir, photos, "--alpha", "0.02")
    assert (run.returncode, run.stdout) == (1, "")
    assert "error: no operating point for alpha = 0.02; stored are 0.01, 0.05, 0.1." in run.stderr


def test_hidden_files_are_no_images_and_links_are_followed(
    shared_bundle: Bundle, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "links"
    (folder / ".ipynb_checkpoints").mkdir(parents=True)
    for name in (".ipynb_checkpoints/b.png", "._b.png"):
        (folder / name).write_bytes(b"x")
    (folder / "linked").symlink_to(photos)
    (folder / "again").symlink_to(folder)
    status, lines = answers(shared_bundle, folder, capsys=capsys)
    assert status == 0
    _, expected = answers(shared_bundle, photos, capsys=capsys)
    assert [Path(line["file"]).name for line in lines] == [Path(line["file"]).name for line in expected]
