"""A real `bentoml serve` process on a small bundle, shared by the tests of this folder."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import httpx
import pytest

from benchmarks.servers import free_port
from runtime.bundle import Bundle

ROOT = Path(__file__).resolve().parents[2]
BENTOML_SERVE = (Path(sys.executable).with_name("bentoml"), "serve")
OODGATE_SERVE = (sys.executable, "-m", "oodgate", "serve")


@contextmanager
def serve(
    *command: str | Path, cwd: Path = ROOT, tracked: bool = False, log: Path | None = None, **environment: str
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """`bentoml serve`, or another command, at the repository's root on a free port, until it is ready; its URL and process.

    Each has a home of its own, because BentoML empties the directory of the metrics there when it starts.

    Args:
        command: in place of `bentoml serve`.
        cwd: where it runs.
        tracked: leave BentoML's usage tracking as the environment has it.
        log: file for its output.
        environment: variables.
    """
    port = free_port()
    arguments = [*(command or BENTOML_SERVE), "--host", "127.0.0.1", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as home, ExitStack() as stack:
        quiet = {} if tracked else {"BENTOML_DO_NOT_TRACK": "True"}
        engine = {"OODGATE_ENGINE": "onnxruntime-cpu", "OODGATE_TUNE": "0"}  # whatever else is installed, or measured
        variables = {**os.environ, **engine, **quiet, "BENTOML_HOME": home, **environment}
        output = stack.enter_context(
            (log or Path(home) / "log").open("w+b")
        )  # a pipe that nobody reads would hold it up
        process = subprocess.Popen(arguments, cwd=cwd, env=variables, stdout=output, stderr=subprocess.STDOUT)
        try:
            _wait(url, process, output)
            yield url, process
        finally:
            process.terminate()
            process.wait(timeout=30)


def _wait(url: str, process: subprocess.Popen[bytes], output: BinaryIO) -> None:
    for _ in range(600):
        if process.poll() is not None:
            output.seek(0)
            raise RuntimeError(output.read().decode())
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise RuntimeError("the service did not become ready in 30 seconds")


@pytest.fixture(scope="session")
def server(shared_bundle: Bundle) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    with serve(OODGATE_BUNDLE=str(shared_bundle.path), OODGATE_MAX_IMAGES="8") as running:
        yield running


@pytest.fixture(scope="session")
def client(server: tuple[str, subprocess.Popen[bytes]]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server[0], timeout=30) as client:
        yield client
