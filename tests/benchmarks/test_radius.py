"""``python -m benchmarks.radius``: quantiles on the screen and as JSON, by the bundle's threshold or the images' own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.gradient import gradient_norms
from benchmarks.radius import main
from export.calibrate.__main__ import main as calibrate
from export.from_torch.classifier import from_checkpoint
from runtime.bundle import Bundle
from tests.export.conftest import Exported, Sources, call
from tests.train.commands import failure
from train import data


def options(sources: Sources) -> list[str]:
    return ["--id", f"{sources.val}@2/2", "--ood", f"noise={sources.noise}"]


def test_with_a_bundle(checkpoint_file: Path, exported: Exported, sources: Sources, tmp_path: Path) -> None:
    file = tmp_path / "radius.json"
    output = call(main, checkpoint_file, *options(sources), "--bundle", exported.path, "--json", file)
    document = json.loads(file.read_text())
    gate = Bundle.load(exported.path).manifest.gate
    assert gate is not None
    assert (document["score"], document["threshold"], document["certified"]) == ("energy", gate.threshold, False)
    classifier = from_checkpoint(checkpoint_file)
    images = data.load(str(sources.noise), classifier.input).images
    values, norms = gradient_norms(classifier.module, classifier.input, "energy", images)
    found = document["sets"]["noise"]
    assert (found["source"], found["images"]) == ("noise.npz", 50)
    assert found["gradient_norm"]["0.5"] == pytest.approx(np.sort(norms)[24])
    radius = np.sort((values - gate.threshold) / norms)
    assert found["first_order_radius"]["0.05"] == pytest.approx(radius[2])
    assert "an estimate, not a certificate" in output
    assert "pixels scaled to [0, 1]" in output
    rows = [line.split()[0] for line in output.splitlines()[3:]]
    assert rows == ["ID", "ID", "noise", "noise"]


@pytest.mark.parametrize("score", ["energy", "msp", "max_logit", "joint_energy"])
def test_without_a_bundle_the_threshold_is_a_quantile_of_the_id_images(
    checkpoint_file: Path, sources: Sources, tmp_path: Path, score: str
) -> None:
    file = tmp_path / "radius.json"
    call(main, checkpoint_file, *options(sources), "--score", score, "--alpha", "0.25", "--json", file)
    document = json.loads(file.read_text())
    assert document["score"] == score
    radius = document["sets"]["ID"]["first_order_radius"]
    assert radius["0.05"] < 0 < radius["0.5"]
    assert radius["0.25"] == pytest.approx(0, abs=0.1)


def test_the_score_of_the_bundles_gate(
    checkpoint_file: Path, exported_copy: Path, sources: Sources, capsys: pytest.CaptureFixture[str]
) -> None:
    call(calibrate, exported_copy, f"{sources.val}@1/2", "--score", "msp")
    assert call(main, checkpoint_file, *options(sources), "--bundle", exported_copy).startswith("S = msp, threshold ")
    arguments = (checkpoint_file, *options(sources), "--bundle", exported_copy)
    assert "has no threshold for energy" in failure(capsys, main, *arguments, "--score", "energy")
    call(calibrate, exported_copy, f"{sources.val}@1/2", "--score", "nan")
    assert "its gate's nan has no gradient here" in failure(capsys, main, *arguments)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("--ood noise", "expected NAME=SOURCE"),
        ("--score nan", "invalid choice: 'nan'"),
        ("--alpha 1", "--alpha must be between 0 and 1"),
        ("--temperature 0", "--temperature must be positive"),
        ("--json nowhere/out.json", "there is no directory nowhere"),
        ("--bundle nowhere", "manifest.json: not found"),
        ("--ood far=nowhere", "nowhere: no such directory"),
        ("--bundle nowhere --alpha 0.1", "--alpha goes without --bundle"),
    ],
)
def test_wrong_options(
    checkpoint_file: Path, sources: Sources, capsys: pytest.CaptureFixture[str], wrong: str, message: str
) -> None:
    assert message in failure(capsys, main, checkpoint_file, *options(sources), *wrong.split())


def test_a_bundle_of_another_model(
    checkpoint_file: Path, bundle_dir: Path, sources: Sources, capsys: pytest.CaptureFixture[str]
) -> None:
    message = failure(capsys, main, checkpoint_file, *options(sources), "--bundle", bundle_dir)
    assert f"{bundle_dir} was not exported from {checkpoint_file}" in message


def test_a_bundle_without_a_threshold(
    checkpoint_file: Path, uncalibrated: Path, sources: Sources, capsys: pytest.CaptureFixture[str]
) -> None:
    message = failure(capsys, main, checkpoint_file, *options(sources), "--bundle", uncalibrated)
    assert "no threshold yet: run python -m export.calibrate" in message
