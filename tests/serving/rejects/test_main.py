from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from serving.exceptions import StoreUnusable
from serving.rejects.__main__ import main
from serving.rejects.files import LocalFiles
from serving.rejects.store import RejectStore
from tests.small import calibration_images, encode

ROOT = Path(__file__).resolve().parents[3]


def test_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    RejectStore(LocalFiles(tmp_path / "store")).save(encode(calibration_images(1)[0]), {}, "cat", "r")
    out = tmp_path / "out.tar"
    assert main(["export", str(tmp_path / "store"), str(out), "--by-prediction"]) == 0
    assert capsys.readouterr().out == f"{out}: 1 image(s)\n"
    with tarfile.open(out) as tar:
        assert [name.partition("/")[0] for name in tar.getnames()] == ["cat"]


def test_no_such_store(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match="no such directory"):
        main(["export", str(tmp_path / "none"), str(tmp_path / "out.tar")])


def test_an_error_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "serving.rejects", "export", str(tmp_path / "none"), "out.tar"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")
