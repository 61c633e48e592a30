"""Every command in README.md runs, in the README's order, on small data."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import images
from tests.commands import oodgate
from tests.serving.conftest import ROOT, serve
from tests.small import encode

BLOCKS = re.findall(r"^```(bash|python)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)

# `make serve` and `make test` are how this test is reached; the others wait for a person.
SERVE = "oodgate serve bundles/first"
OODGATE = (sys.executable, "-m", "oodgate")
NOT_HERE = ("make ", "pip install ", "tensorboard ")


def commands() -> list[str]:
    """Shell commands, continued lines joined, and Python blocks."""
    found = []
    for language, text in BLOCKS:
        if language == "python":
            found.append(text)
        else:
            lines = text.replace("\\\n", " ").splitlines()
            found += [line for line in lines if not line.startswith(NOT_HERE)]
    return found


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the files that the README speaks of."""
    path = tmp_path_factory.mktemp("readme")
    rng = np.random.default_rng(0)
    for name, count in (("train", 100), ("val", 140), ("textures", 60), ("outliers", 140)):
        for label, colour in (("cat", 60), ("dog", 190)):
            (path / name / label).mkdir(parents=True)
            for i in range(count):
                noise = (
                    rng.normal(colour, 30, (32, 32, 3))
                    if name in ("train", "val")
                    else rng.normal(128, 90, (32, 32, 3))
                )
                Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(path / name / label / f"{i}.png")
        with tarfile.open(path / f"{name}.tar", "w") as tar:
            tar.add(path / name, arcname=".")
    (path / "photo.jpg").write_bytes(images.photo())
    (path / "other.png").write_bytes(encode(rng.integers(0, 256, (50, 40, 3), dtype=np.uint8)))
    (path / "folder").mkdir()
    (path / "folder" / "third.png").write_bytes((path / "other.png").read_bytes())
    (path / "labels.txt").write_text("cat\ndog\n")
    (path / "mypackage").mkdir()
    (path / "mypackage" / "models.py").write_text(
        "from torch import nn\n"
        "def make():\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))\n"
    )
    make_weights = "import torch, mypackage.models as m; torch.save(m.make().state_dict(), 'weights.pth')"
    subprocess.run([sys.executable, "-c", make_weights], cwd=path, check=True)
    return path


@pytest.fixture(scope="module")
def shipped() -> Iterator[str]:
    """Where `make serve` answers."""
    with serve() as (url, _):
        yield url


@pytest.fixture(scope="module")
def first(workplace: Path) -> Iterator[str]:
    """Where `oodgate serve bundles/first` answers."""
    with serve(*OODGATE, *SERVE.split()[1:], cwd=workplace, PYTHONPATH=str(ROOT)) as (url, _):
        yield url


@pytest.mark.parametrize(
    ("number", "command"), list(enumerate(commands())), ids=lambda value: str(value).split("\n")[0][:60]
)
def test_command(
    number: int, command: str, workplace: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if command == SERVE:
        request.getfixturevalue("first")
        return
    if re.fullmatch(r"oodgate [\w ./:,@=-]+", command):
        monkeypatch.chdir(workplace)
        monkeypatch.syspath_prepend(workplace)
        oodgate(*command.replace("--epochs 30", "--epochs 1").replace("--epochs 10", "--epochs 1").split()[1:])
        return
    if "localhost:3000" in command:
        served_yet = number > commands().index(SERVE)
        command = command.replace("localhost:3000", request.getfixturevalue("first" if served_yet else "shipped"))
        command = command.replace("curl", "curl -sS --fail-with-body")
    if command.startswith(("import", "from")):
        arguments = [sys.executable, "-c", command]
    else:
        arguments = ["bash", "-c", command.replace("oodgate", " ".join(OODGATE), 1)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(arguments, cwd=workplace, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr or done.stdout


def test_the_commands_that_matter_are_there() -> None:
    text = "\n".join(commands())
    for command in (
        "oodgate train",
        "oodgate export",
        "oodgate calibrate",
        "oodgate fit",
        "oodgate evaluate",
        "oodgate run",
        "oodgate score",
        "oodgate serve",
    ):
        assert command in text
