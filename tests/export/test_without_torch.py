"""Where torch is not installed, as on the machine that a bundle runs on: every command, the export of an ONNX file too."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from runtime import Gate
from runtime.bundle import Bundle
from tests.export.from_onnx.graphs import torch_like
from tests.small import LABELS, calibration_images
from tests.test_imports import ROOT, loaded_by

COMMANDS = ("calibrate", "fit", "convert", "evaluate", "parity", "tensorrt")

# What the extra `calibrate` does not install.
PREVENT = """
import runpy, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "onnxscript", "safetensors", "tensorboard"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


def run(command: str, *options: object) -> str:
    """What ``python -m export.COMMAND`` prints; it succeeds."""
    argv = [sys.executable, "-c", PREVENT, f"export.{command}", *map(str, options)]
    found = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "images.npz"
    np.savez(path, images=calibration_images(200, seed=5), labels=np.array(LABELS)[np.arange(200) % 3])
    return path


def test_importing_the_commands_leaves_torch_out() -> None:
    loaded = loaded_by(
        "\n".join(f"import export.{command}.__main__" for command in COMMANDS) + "\nimport export.__main__"
    )
    assert "export" in loaded
    assert "torch" not in loaded


def test_the_hook_prevents_torch() -> None:
    argv = [sys.executable, "-c", PREVENT, "train", "--help"]
    found = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode != 0
    assert "No module named 'torch'" in found.stderr


def test_export_of_an_onnx_file(images: Path, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(torch_like().SerializeToString())
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    output = run(
        *("__main__", "--checkpoint", tmp_path / "model.onnx", "--labels", tmp_path / "labels.txt"),
        *(
            "--mean",
            0.5,
            0.4,
            0.3,
            "--std",
            0.2,
            0.25,
            0.3,
            "--resize-to",
            16,
            "--calibration",
            images,
            "--out",
            tmp_path / "bundle",
        ),
    )
    assert "verified against ONNX Runtime on " in output
    manifest = Gate.load(tmp_path / "bundle", threads=1).manifest
    assert manifest.labels == LABELS
    assert "torch" not in manifest.provenance["versions"]


def test_calibrate(bundle_dir: Path, images: Path) -> None:
    before = Gate.load(bundle_dir, threads=1).manifest
    run("calibrate", bundle_dir, images, "--score", "energy+nan", "--alpha", "0.05")
    after = Gate.load(bundle_dir, threads=1).manifest
    assert after.scores == (*before.scores, "energy+nan")
    assert after.gate is not None
    assert after.gate.alpha == 0.05


def test_fit(bundle_dir: Path, images: Path) -> None:
    halves = [f"{images}@{half}/2" for half in (1, 2)]
    run("fit", bundle_dir, halves[0], "--detectors", "knn,react", "--set", "knn.k=5", "--calibration", halves[1])
    assert Gate.load(bundle_dir, threads=1).manifest.scores[-2:] == ("knn", "react")


def test_convert_evaluate_and_parity_of_two_bundles(shared_bundle: Bundle, images: Path, tmp_path: Path) -> None:
    out, noise = tmp_path / "int8", tmp_path / "noise.npz"
    rng = np.random.default_rng(0)
    np.savez(noise, images=rng.integers(0, 256, (30, 16, 16, 3), dtype=np.uint8), labels=np.zeros(30, np.int64))
    run("convert", shared_bundle.path, "--precision", "int8", "--int8-keep", "none", "--calibration",
        f"{images}@1/2", "--out", out)  # fmt: skip
    assert Gate.load(out, threads=1).manifest.model.precision == "int8"
    run("evaluate", out, "--id", f"{images}@2/2", "--ood", f"noise={noise}", "--card")
    assert (out / "evaluation.json").is_file()
    plot = tmp_path / "plot.png"
    run("parity", shared_bundle.path, out, f"{images}@2/2", "--ood", f"noise={noise}", "--plot", plot)
    assert plot.stat().st_size


def test_tensorrt(bundle_dir: Path) -> None:
    if importlib.util.find_spec("tensorrt_rtx_bindings") is None:
        assert "--tensorrt" in run("tensorrt", "--help")
        return
    run("tensorrt", bundle_dir, "--tensorrt", "rtx", "--sm", "89", "--batch", "1,4,8")
    assert len(Bundle.load(bundle_dir).manifest.engines) == 1
