"""What every allowed version of the dependencies must do: decide, calibrate, evaluate and serve, without torch or pytest.

``python tests/smoke.py`` from the repository's root, in an environment with the extras serving and calibrate; once more
with ``-OO``, which must change nothing. Exits with 0, or with the traceback of what failed.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # as `python -m` would

from oodgate import Gate  # noqa: E402

PYTHON = [sys.executable, *("-" + "O" * sys.flags.optimize for _ in range(sys.flags.optimize > 0))]
SAMPLES = sorted((ROOT / "serving/page/samples").glob("*.png"))


def expect(holds: bool, what: str) -> None:
    """An assertion that ``-O`` leaves in."""
    if not holds:
        raise AssertionError(what)


def oodgate(*arguments: object) -> str:
    """What a command prints."""
    run = subprocess.run(
        [*PYTHON, "-m", "oodgate", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    expect(run.returncode == 0, f"oodgate {arguments}: status {run.returncode}\n{run.stdout}{run.stderr}")
    return run.stdout


def write_images(path: Path, n: int, seed: int) -> Path:
    """Coarse noise, as class folders of the shipped model's first two classes."""
    images = (
        np.random.default_rng(seed).integers(0, 256, (n, 4, 4, 3), dtype=np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    )
    labels = np.array(["airplane", "automobile"])[np.arange(n) % 2]
    np.savez(path, images=images, labels=labels)
    return path


def decide(bundle: Path) -> list[dict[str, Any]]:
    """The decisions on the page's samples, in process; the model knows photographs of its classes, and no charts."""
    gate = Gate.load(bundle)
    decisions = [gate.decide([file])[0].to_dict() for file in SAMPLES]  # one by one, as they come over HTTP
    verdict = {file.stem: decision["decision"] for file, decision in zip(SAMPLES, decisions, strict=True)}
    expect({verdict["ship"], verdict["horse"], verdict["frog"]} == {"accept"}, f"photographs: {verdict}")
    expect({verdict["chart"], verdict["static"], verdict["spiral"]} == {"reject"}, f"charts: {verdict}")
    return decisions


def serve(bundle: Path, expected: list[dict[str, Any]]) -> None:
    """A real server and real requests: the same decisions."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [*PYTHON, "-m", "oodgate", "serve", str(bundle), "--host", "127.0.0.1", "--port", str(port)]
    with tempfile.TemporaryDirectory() as home:
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "BENTOML_HOME": home})
        try:
            for file, decision in zip(SAMPLES, expected, strict=True):
                found = ask(f"http://127.0.0.1:{port}/classify", file.read_bytes(), process)
                expect(found == decision, f"{file.name}: {found} over HTTP, {decision} in process")
        finally:
            process.terminate()
            process.wait(30)


def ask(url: str, body: bytes, process: subprocess.Popen[bytes]) -> Any:
    """The JSON answer, once the server is up."""
    end = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body, method="POST"), timeout=30) as answer:
                return json.load(answer)
        except OSError:
            expect(process.poll() is None and time.monotonic() < end, "the server does not come up")
            time.sleep(0.3)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(shutil.copytree(ROOT / "bundles/cifar10", Path(folder) / "bundle"))
        decisions = decide(bundle)
        serve(bundle, decisions)
        known, other = write_images(Path(folder) / "a.npz", 200, 1), write_images(Path(folder) / "b.npz", 100, 2)
        oodgate("fit", bundle, known, "--detectors", "knn,react", "--calibration", other)
        oodgate("calibrate", bundle, other, "--alpha", 0.1)
        printed = oodgate("evaluate", bundle, "--id", known, "--ood", f"same={other}", "--allow-leakage")
        expect("knn" in printed, printed)
        accepted = sum(decision.decision == "accept" for decision in Gate.load(bundle).decide(np.load(other)["images"]))
        expect(accepted >= 90, f"{accepted} of the 100 calibration images are accepted at alpha = 0.1")
    print(f"Python {sys.version.split()[0]}, numpy {np.__version__}: decides, serves, fits, calibrates, evaluates")


if __name__ == "__main__":
    main()
