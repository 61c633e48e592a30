"""A named engine that can't run ends the service with one line."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from runtime.bundle import Bundle
from runtime.engines.gpu import find_gpu
from runtime.exceptions import EngineError
from tests.serving.conftest import BENTOML_SERVE, OODGATE_SERVE

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("command", [BENTOML_SERVE, OODGATE_SERVE], ids=["bentoml", "oodgate"])
def test_an_engine_without_its_gpu(command: tuple[Path | str, ...], tmp_path: Path, shared_bundle: Bundle) -> None:
    try:
        found = find_gpu()
    except EngineError:
        found = None
    if found:
        pytest.skip("this machine has a GPU")
    environment = {**os.environ, "BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(tmp_path)}
    environment |= {"OODGATE_BUNDLE": str(shared_bundle.path), "OODGATE_ENGINE": "onnxruntime-cuda"}
    ended = subprocess.run(
        [*command, "--port", "0"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    assert "engine onnxruntime-cuda: no NVIDIA GPU here" in ended.stderr
    assert "Traceback" not in ended.stderr
