"""What is expensive and shared: sources, a trained checkpoint, its bundle, and a foreign model's weights."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from export.__main__ import main as export
from export.graph.head import seal
from runtime import bundle
from tests.export import factories
from tests.small import encode
from tests.train.sets import colours, noise, write_folder, write_tar
from train.__main__ import main as train


@dataclass(frozen=True)
class Sources:
    """Sources on disk: `train` and `val` of three colours, `noise` of none, `dark` a flat folder of black images."""

    train: Path
    val: Path
    noise: Path
    dark: Path


@dataclass(frozen=True)
class Exported:
    """A bundle and what the command that wrote it printed."""

    path: Path
    output: str


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    path = tmp_path_factory.mktemp("sources")
    np.savez(path / "noise.npz", images=noise(50), labels=np.zeros(50, np.int64))
    (path / "dark").mkdir()
    for i in range(20):
        (path / "dark" / f"{i}.png").write_bytes(encode(np.full((8, 8, 3), i, np.uint8)))
    return Sources(
        train=write_folder(path / "train", colours(240)),
        val=write_tar(path / "val.tar", colours(120, seed=1)),
        noise=path / "noise.npz",
        dark=path / "dark",
    )


@pytest.fixture(scope="session")
def checkpoint_file(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A resnet20 that tells the colours apart."""
    out = tmp_path_factory.mktemp("run")
    options = "--method cross-entropy --arch resnet20 --size 8 --epochs 2 --batch-size 16 --learning-rate 0.02"
    call(train, *options.split(), "--data", sources.train, "--val", sources.val, "--out", out, "--precision", "fp32")
    return out / "checkpoint.safetensors"


@pytest.fixture(scope="session")
def exported(sources: Sources, checkpoint_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The checkpoint's bundle, calibrated and evaluated; read only."""
    path = tmp_path_factory.mktemp("bundles") / "colours"
    calibration = ("--calibration", f"{sources.val}@1/2", "--alpha", "0.1")
    ood = ("--id", f"{sources.val}@2/2", "--ood", f"noise={sources.noise}", "--ood", f"dark={sources.dark}")
    return Exported(path, call(export, "--checkpoint", checkpoint_file, "--out", path, *calibration, *ood))


@pytest.fixture
def exported_copy(exported: Exported, tmp_path: Path) -> Path:
    """A private copy of the bundle's directory."""
    return Path(shutil.copytree(exported.path, tmp_path / "colours"))


@pytest.fixture
def uncalibrated(exported_copy: Path) -> Path:
    """The copy without its threshold."""
    loaded = bundle.Bundle.load(exported_copy)
    manifest = replace(loaded.manifest, gate=None)
    model = seal(onnx.load_from_string(loaded.model), manifest)
    return bundle.write(exported_copy, manifest, {bundle.MODEL: model}, {}).path


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Weights for `factories.plain`, other than those that it starts with."""
    path = tmp_path / "weights.pth"
    torch.save(factories.trained().state_dict(), path)
    return path


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.txt"
    path.write_text("cat\ndog\nship\n")
    return path


def contents(path: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def call(main: Callable[[Sequence[str]], int], *argv: object) -> str:
    """Run a command that succeeds; what it printed."""
    output = io.StringIO()
    with redirect_stdout(output):
        assert main([str(item) for item in argv]) == 0
    return output.getvalue()
