"""docs/tutorial.md runs as it is written, and what it claims of its model is so."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime import Gate
from tests.serving.conftest import ROOT, serve

BLOCKS = re.findall(
    r"^```(bash|python)\n(.*?)^```$", (ROOT / "docs" / "tutorial.md").read_text(), re.MULTILINE | re.DOTALL
)
MAKE = "\n".join(text for language, text in BLOCKS[:2])
(SERVE,) = (text.split() for language, text in BLOCKS if language == "bash")
ASK = BLOCKS[-1][1]


def script(text: str, cwd: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr or done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tutorial")


@pytest.fixture(scope="module")
def printed(workplace: Path) -> str:
    return script(MAKE, workplace)


@pytest.fixture(scope="module")
def url(workplace: Path, printed: str) -> Iterator[str]:  # noqa: ARG001
    with serve(sys.executable, "-m", *SERVE, cwd=workplace, PYTHONPATH=str(ROOT)) as (url, _):
        yield url


def test_the_code_from_model_to_service_is_twenty_lines() -> None:
    lines = [
        line for _, text in BLOCKS[1:] for line in text.splitlines() if line and not line.startswith(("import", "from"))
    ]
    assert len(lines) <= 21


def test_a_model_in_memory_becomes_a_gate(workplace: Path, printed: str) -> None:
    gate = Gate.load(workplace / "bundles" / "digits").manifest.gate
    assert gate is not None
    assert (gate.alpha, gate.n_calibration) == (0.05, 400)
    right, accepted = map(float, re.findall(r"([\d.]+)% right, ([\d.]+)% accepted", printed)[0])
    assert right > 90
    assert accepted > 88
    assert "WRONG" not in printed
    assert "verified against torch on 400 images" in printed


def test_the_service_is_asked(url: str) -> None:
    three, nine, batch = script(ASK.replace("http://localhost:3000", url), ROOT).splitlines()
    assert three.startswith("3 ")
    assert nine.startswith("9 ")
    assert batch == "2"
