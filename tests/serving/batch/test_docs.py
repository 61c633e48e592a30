"""Every command of docs/batch.md that needs no cluster and no bucket runs, in its order, on small data."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runtime.bundle import Bundle
from tests.commands import oodgate
from tests.serving.batch.sources import photos, write_folder, write_shards

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs" / "batch.md").read_text()
BLOCKS = re.findall(r"^```(bash|python)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
NOT_HERE = ("pip install ", "docker ", "kubectl ")


def commands() -> list[str]:
    """Shell commands and Python blocks."""
    found: list[str] = []
    for language, text in BLOCKS:
        found += (
            [text] if language == "python" else [line for line in text.splitlines() if not line.startswith(NOT_HERE)]
        )
    return found


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory, shared_bundle: Bundle) -> Path:
    """A directory with what the page speaks of."""
    path = tmp_path_factory.mktemp("batch")
    shutil.copytree(shared_bundle.path, path / "bundles" / "first")
    write_folder(path / "photos", photos(20))
    write_shards(path / "shards", photos(20), 5)
    pq.write_table(pa.table({"id": range(20), "jpg": photos(20), "thumbnail": photos(20)}), path / "table.parquet")
    return path


@pytest.mark.parametrize("command", commands(), ids=lambda command: command.split("\n")[0][:60])
def test_command(command: str, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "--engine ray" in command and importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    command = command.replace("s3://bucket/images/", "photos/").replace(
        "s3://bucket/scores", f"bucket-{'ray' in command}"
    )
    if command.startswith("oodgate") and "ray" not in command:
        monkeypatch.chdir(workplace)
        oodgate(*shlex.split(command)[1:])
        return
    own = (
        [sys.executable, "-c", command]
        if command.startswith("import")
        else [sys.executable, "-m", *shlex.split(command)]
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(own, cwd=workplace, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr or done.stdout


def test_what_matters_is_on_the_page() -> None:
    text = "\n".join(commands())
    for said in (
        "photos/",
        "'shards/{000..003}.tar'",
        "table.parquet",
        "--fdr 0.1",
        "--engine ray",
        "s3://bucket/scores",
    ):
        assert said in text


def test_the_columns_on_the_page_are_those_that_are_written(workplace: Path) -> None:
    (file,) = (workplace / "scores").glob("*.parquet")
    named = set(re.findall(r"`(\w+)`", TEXT[TEXT.index("**Rows.**") : TEXT.index("```python")]))
    for column in pq.read_schema(file).names:
        assert column in named or column.startswith("score_")


def test_the_cost_is_the_formula_s() -> None:
    assert round(1_000_000 / 3600) == 278
    (milliseconds, rate, hours) = re.search(
        r"about (\d+) ms .* R = (\d+): .* take ([\d.]+) hours", TEXT, re.DOTALL
    ).groups()  # type: ignore[union-attr]
    assert rate == f"{1000 / int(milliseconds):.0f}"
    assert hours == f"{1_000_000 / int(rate) / 3600:.1f}"
