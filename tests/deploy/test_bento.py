"""`bentoml build` makes a Bento that serves the shipped bundle."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("bentoml")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bento(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Bento's directory. BentoML installs uv where it finds none, even to build without it: here it finds one."""
    home = tmp_path_factory.mktemp("bentoml")
    (home / "bin").mkdir()
    (home / "bin" / "uv").write_text("#!/bin/sh\nexit 1\n")
    (home / "bin" / "uv").chmod(0o755)
    variables = {
        **os.environ,
        "PATH": f"{home / 'bin'}:{os.environ['PATH']}",
        "BENTOML_HOME": str(home),
        "BENTOML_DO_NOT_TRACK": "True",
    }
    command = [Path(sys.executable).with_name("bentoml"), "build", "--version", "test"]
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return home / "bentos" / "oodgate" / "test"


def test_what_is_inside(bento: Path) -> None:
    source = bento / "src"
    files = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    assert {path.partition("/")[0] for path in files} == {
        "runtime", "serving", "bundles", "pyproject.toml", "README.md", "LICENSE", "bentofile.yaml"
    }  # fmt: skip
    expected = {
        str(path.relative_to(ROOT))
        for folder in ("runtime", "serving", "bundles")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert expected <= files


def test_its_requirements_are_the_image_s(bento: Path) -> None:
    built = (bento / "env" / "python" / "requirements.txt").read_text().splitlines()
    ours = (ROOT / "deploy" / "requirements.txt").read_text().splitlines()
    assert set(ours) <= set(built)


def test_it_loads_from_its_own_files(bento: Path) -> None:
    code = "import serving.service as s; print(s.__file__, s.app.state.settings.bundle)"
    variables = {"BENTOML_HOME": str(bento.parents[2]), "BENTOML_DO_NOT_TRACK": "True"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=bento / "src", env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        str(bento / "src" / "serving" / "service.py"),
        str(bento / "src" / "bundles" / "cifar10"),
    ]
