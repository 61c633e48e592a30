"""The commands of docs/golden.md run, and its figures are the code's."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from export.golden.drawing import draw
from oodgate.__main__ import COMMANDS
from runtime.engines.tolerance import REPEATED, tolerance
from tests import images
from tests.serving.conftest import ROOT, serve
from tests.small import SPEC

TEXT = (ROOT / "docs" / "golden.md").read_text()
LINES = [line for block in re.findall(r"^```bash\n(.*?)^```$", TEXT, re.M | re.S) for line in block.splitlines()]
(PYTHON,) = re.findall(r"^```python\n(.*?)^```$", TEXT, re.M | re.S)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("golden")
    shutil.copytree(ROOT / "bundles" / "cifar10", path / "bundles" / "cifar10")
    (path / "photo.jpg").write_bytes(images.photo())
    return path


@pytest.fixture(scope="module")
def shipped() -> Iterator[str]:
    """Where `make serve` answers."""
    with serve() as (url, _):
        yield url


@pytest.mark.parametrize("line", LINES)
def test_command(
    line: str,
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(workplace)
    if "localhost:3000" in line:
        line = line.replace("http://localhost:3000", request.getfixturevalue("shipped"))
    oodgate, name, *arguments = line.split()
    assert oodgate == "oodgate"
    assert import_module(COMMANDS[name].module).main(arguments) == 0
    assert "golden" in capsys.readouterr().out or "--json" in arguments


def test_python(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    names: dict[str, object] = {}
    exec(PYTHON, names)
    assert names["accept"].shape == (1,)  # type: ignore[attr-defined]


def test_the_images_are_those_that_are_drawn() -> None:
    section = TEXT.partition("## Golden images")[2].partition("`golden.json`, which")[2].partition("| field")[0]
    assert set(re.findall(r"`(\w+\.(?:png|jpg))`", section)) == set(draw(SPEC))


def test_what_is_allowed_is_what_the_code_allows() -> None:
    rows = dict(re.findall(r"^\| ([^|]+) \| ([\d.]+ % \| [\d.]+ %) \|$", TEXT, re.M))
    wanted = {
        "fp32 on a CPU": tolerance("fp32", gpu=False),
        "fp16 on a CPU": tolerance("fp16", gpu=False),
        "bf16, int8": tolerance("int8", gpu=False),
        "anything on a GPU": tolerance("fp32", gpu=True),
    }
    assert rows == {name: f"{100 * one.logits:g} % | {100 * one.scores:g} %" for name, one in wanted.items()}
    assert tolerance("bf16", gpu=False) == tolerance("int8", gpu=False)
    assert f"may differ by {100 * REPEATED.scores:g} %" in TEXT.replace("\n", " ")
