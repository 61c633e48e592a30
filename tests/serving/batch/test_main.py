"""The command: what it teaches, prints and exits with."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.bundle import Bundle
from runtime.exceptions import OodgateError
from serving.batch.__main__ import main
from tests.serving.batch.sources import photos, rows, write_folder
from tests.test_imports import loaded_by

ROOT = Path(__file__).resolve().parents[3]


def score(bundle: Bundle, *arguments: str | Path) -> int:
    return main([*map(str, arguments), "--bundle", str(bundle.path), "--backend", "onnxruntime-cpu", "--workers", "1"])


def test_what_is_printed_is_the_output_in_all(
    shared_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = write_folder(tmp_path / "photos", photos(70, {3: b""})), tmp_path / "out"
    assert score(shared_bundle, folder, "--out", out, "--fdr", "0.9") == 0
    counts, speed, outliers = capsys.readouterr().out.splitlines()
    accepted = sum(row["decision"] == "accept" for row in rows(out))
    assert (
        counts
        == f"{out}: 70 images: {accepted} accepted, {69 - accepted} rejected ({69 - accepted} ood), 1 errors (1 empty_image)"
    )
    assert speed.startswith("70 images in ")
    found = sum(bool(row["outlier"]) for row in rows(out))
    assert outliers.startswith(
        f"outliers: {found} of 69 at a false discovery rate of 0.9, those with a p-value of at most "
    )
    summary = json.loads((out / "_summary.json").read_text())
    assert (summary["images"], summary["accepted"], summary["errors"]) == (70, accepted, {"empty_image": 1})
    assert score(shared_bundle, folder, "--out", out) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["70 of them were there already"]


def test_without_outliers_it_says_what_it_would_take(
    shared_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_folder(tmp_path / "photos", photos(50))
    assert score(shared_bundle, folder, "--out", tmp_path / "out", "--fdr", "0.01") == 0
    assert "50 images would need the smallest p-value that there is: calibrate with more" in capsys.readouterr().out


def test_a_source_without_one_usable_image_is_an_error(shared_bundle: Bundle, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "photos", [b"x", b"y"])
    with pytest.raises(
        OodgateError, match="none of the images could be decided on; its columns error and message say why"
    ):
        score(shared_bundle, folder, "--out", tmp_path / "out")
    assert len(rows(tmp_path / "out")) == 2


@pytest.mark.parametrize(
    ("option", "said"),
    [("--rows=100", "multiple of 64, such as 128, found 100"), ("--workers=0", "at least 1, found 0")],
)
def test_options_that_can_t_be(option: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["photos", "--bundle", "b", "--out", "o", option])
    assert said in capsys.readouterr().err


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for said in (
        "the --engine of oodgate run",
        "Run it again and it goes on",
        "s3://bucket/images/",
        "WebDataset",
        "--fdr 0.1",
    ):
        assert said in text


def test_a_user_s_error_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "serving.batch", tmp_path / "none", "--bundle", "bundles/cifar10", "--out", tmp_path / "out"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: {tmp_path}/none: no such file or folder\n"


def test_nothing_of_the_service_or_of_training_is_loaded() -> None:
    loaded = loaded_by("import serving.batch.__main__")
    assert {"serving", "pyarrow", "fsspec"} <= loaded
    assert not loaded & {"bentoml", "starlette", "torch", "onnx", "export", "train", "ray", "sklearn", "scipy"}


def test_only_one_module_imports_ray() -> None:
    texts = {file.name: file.read_text() for file in (ROOT / "serving" / "batch").rglob("*.py")}
    assert [name for name, text in texts.items() if "\nimport ray" in text or "from ray" in text] == ["cluster.py"]


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_it_says_how_to_have_it(shared_bundle: Bundle, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "photos", photos(1))
    with pytest.raises(
        OodgateError, match=r"--engine ray needs ray, which is not installed: pip install 'oodgate\[ray\]'"
    ):
        score(shared_bundle, folder, "--out", tmp_path / "out", "--engine", "ray")
