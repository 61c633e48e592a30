"""What docs/triton.md shows runs; its client in tests/serving/http/test_triton.py."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.serving.conftest import ROOT

PAGE = (ROOT / "docs" / "triton.md").read_text()
BLOCKS = re.findall(r"^```(bash|python)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_export(tmp_path: Path) -> None:
    (line,) = (line for kind, text in BLOCKS for line in text.splitlines() if line.startswith("oodgate "))
    (tmp_path / "bundles").symlink_to(ROOT / "bundles")
    command = [sys.executable, "-m", *line.split()]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    models = {path.name for path in (tmp_path / "models").iterdir()}
    table = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    assert models == table - {"cifar10_tensorrt"}  # the shipped bundle has no engine


def test_the_manifests() -> None:
    (line,) = (line for _, text in BLOCKS for line in text.splitlines() if line.startswith("kubectl "))
    assert (ROOT / line.split()[-1]).is_file()
