"""What a wheel installs works without the repository, in a folder that has modules of our names too."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from runtime import Gate
from runtime.bundle import Bundle
from tests import images
from tests.oodgate.folders import hostile
from tests.oodgate.test_main import ORDER
from tests.serving.conftest import serve

pytest.importorskip("hatchling")

ROOT = Path(__file__).resolve().parents[2]


def _pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    _pip("wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT)
    return next(folder.glob("oodgate-*.whl"))


@pytest.fixture(scope="module")
def command(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The console script, in an environment of its own that borrows the dependencies, not the project, of this one."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, symlinks=True)
    _pip("--python", home / "bin" / "python", "install", "--no-index", "--no-deps", wheel)
    borrowed = [entry for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))]
    (packages,) = home.glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text("\n".join(borrowed) + "\n")
    return home / "bin" / "oodgate"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a user types: far from the repository, among modules of our names."""
    path = hostile(tmp_path_factory.mktemp("user"))
    (path / "photo.jpg").write_bytes(images.photo())
    return path


def _run(command: Path, *arguments: str, cwd: Path) -> str:
    run = [command, *arguments]
    environment = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(run, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_inside(wheel: Path) -> None:
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    ours = {
        str(file.relative_to(ROOT))
        for package in ("oodgate", "runtime", "export", "train", "serving")
        for file in (ROOT / package).rglob("*")
        if file.is_file() and file.suffix != ".pyc"
    }
    assert inside == ours
    assert {"serving/page/index.html", "serving/page/page.js", "serving/page/page.css", "oodgate/py.typed"} <= inside


def test_the_overview(command: Path, folder: Path) -> None:
    assert "From images to a service" in _run(command, "--help", cwd=folder)


def test_every_commands_help(command: Path, folder: Path) -> None:
    """In one process, which loads torch once."""
    code = """
from oodgate.__main__ import COMMANDS, main
for name in COMMANDS:
    try:
        main([name, "--help"])
    except SystemExit as end:
        print(f"{name} ended with {end.code}")
"""
    lines = _run(command.with_name("python"), "-c", code, cwd=folder).splitlines()
    assert [line.split()[2] for line in lines if line.startswith("usage: oodgate ")] == ORDER
    assert [line for line in lines if " ended with " in line] == [f"{name} ended with 0" for name in ORDER]


def test_the_facade(command: Path, tmp_path: Path) -> None:
    code = "import oodgate, runtime; from oodgate import Gate; print(Gate is runtime.Gate, oodgate.__file__)"
    same, place = _run(command.with_name("python"), "-c", code, cwd=tmp_path).split()
    assert same == "True"
    assert Path(place).is_relative_to(command.parents[1])


def test_run(command: Path, folder: Path, shared_bundle: Bundle) -> None:
    line = _run(command, "run", str(shared_bundle.path), "photo.jpg", "--engine", "onnxruntime-cpu", cwd=folder)
    (decision,) = Gate.load(shared_bundle.path).decide([folder / "photo.jpg"])
    assert json.loads(line) == {"file": "photo.jpg", **json.loads(json.dumps(decision.to_dict()))}


@pytest.fixture(scope="module")
def served(command: Path, folder: Path, shared_bundle: Bundle) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """`oodgate serve BUNDLE`, the bundle named from where it is typed: its URL and process."""
    bundle = os.path.relpath(shared_bundle.path, folder)
    with serve(command, "serve", bundle, cwd=folder, PYTHONPATH="", OODGATE_WORKERS="2") as running:
        yield running


def test_the_service_decides(served: tuple[str, subprocess.Popen[bytes]], shared_bundle: Bundle) -> None:
    answer = httpx.post(f"{served[0]}/classify", content=images.photo()).json()
    (decision,) = Gate.load(shared_bundle.path).decide([images.photo()])
    assert answer == json.loads(json.dumps(decision.to_dict()))


@pytest.mark.parametrize("path", ["/", "/page/page.css", "/page/page.js"])
def test_the_page_is_installed(served: tuple[str, subprocess.Popen[bytes]], path: str) -> None:
    assert httpx.get(served[0] + path).status_code == 200


def test_a_signal_ends_the_service(served: tuple[str, subprocess.Popen[bytes]]) -> None:
    _, process = served
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 0
