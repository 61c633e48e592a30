"""Decisions in BentoML's monitoring log."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from runtime import Gate
from runtime.bundle import Bundle
from tests.serving.conftest import ROOT
from tests.small import calibration_images, encode

SCRIPT = """
import asyncio, sys
from runtime.bundle import Bundle
from tests.serving.inside import application

async def main():
    async with application(Bundle.load(sys.argv[1]), monitor=True) as (client, _):
        for name in sys.argv[2:]:
            data = open(name, "rb").read()
            answer = await client.post("/classify", content=data, headers={"x-request-id": name.rpartition("/")[2]})
            assert answer.status_code == 200

asyncio.run(main())
"""


def test_decisions_are_logged_with_their_requests(shared_bundle: Bundle, tmp_path: Path) -> None:
    """In a process of its own, whose working directory the log goes to."""
    files = []
    for i, image in enumerate(calibration_images(4)):
        files.append(tmp_path / f"{i}.png")
        files[-1].write_bytes(encode(image))
    command = [sys.executable, "-c", SCRIPT, str(shared_bundle.path), *map(str, files)]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "BENTOML_HOME": str(tmp_path / "home"), "HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (log,) = (tmp_path / "monitoring" / "oodgate" / "data").glob("*.log")
    records = [json.loads(line) for line in log.read_text().splitlines()]
    expected = [Gate.load(shared_bundle.path, threads=1).decide([file])[0] for file in files]
    assert [record["request"] for record in records] == [file.name for file in files]
    assert [record["decision"] for record in records] == [decision.decision for decision in expected]
    assert [record["p_value"] for record in records] == [decision.score.p_value for decision in expected]
    assert "score_energy" in records[0]
