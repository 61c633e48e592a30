"""``python -m benchmarks.radius``: quantiles on the screen and as JSON, by the bundle's threshold or the images' own.

Input gradients are held against the closed form of a linear model: grad_x energy = sum_k p_k w_k, through the
normalisation.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from benchmarks.radius import SCORES, first_order_radius, gradient_norms, main
from export.calibrate.__main__ import main as calibrate
from export.detectors.base import BASE, Energy
from export.from_torch.checkpoint import from_checkpoint
from runtime.bundle import Bundle
from runtime.manifest import InputSpec
from tests.commands import failure
from tests.export.conftest import Exported, Sources, call
from train import data
from train.normalize import Normalize


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
    rows = [line.split()[0] for line in output.splitlines()[5:]]
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
    assert "\nS = msp, threshold " in call(main, checkpoint_file, *options(sources), "--bundle", exported_copy)
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
    assert "no threshold yet: run oodgate calibrate" in message


# --- gradients

SPEC = InputSpec(4, 4, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))


class Linear(nn.Module):
    """Logits W x + b of the normalised image."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(48, 5)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        flat = self.dropout(x.flatten(1))
        return self.fc(flat), flat


@pytest.fixture
def images(rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    return rng.integers(0, 256, (70, 4, 4, 3), dtype=np.uint8)


def logits(model: Linear, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    with torch.no_grad():
        return model.eval()(Normalize(SPEC)(torch.from_numpy(images)))[0].double().numpy()


def weights(model: Linear) -> npt.NDArray[np.float64]:
    """d f_k / d x for pixels x in [0, 1]: W over the channel's deviation, (5, 3, 16)."""
    scaled = model.fc.weight.detach().double().numpy().reshape(5, 3, 16)
    return scaled / np.array(SPEC.std)[:, None]


def slopes(score: str, f: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """d S / d f (N, K), by hand."""
    p = np.exp(f) / np.exp(f).sum(axis=1, keepdims=True)
    top = np.eye(f.shape[1])[f.argmax(axis=1)]
    return {
        "energy": p,
        "max_logit": top,
        "msp": p.max(axis=1, keepdims=True) * (top - p),
        "joint_energy": 1 / (1 + np.exp(-f)),
    }[score]


@pytest.mark.parametrize("score", SCORES)
def test_linear_model(score: str, images: npt.NDArray[np.uint8]) -> None:
    model = Linear().train()  # its dropout must not act
    values, norms = gradient_norms(model, SPEC, score, images)
    f = logits(model, images)
    gradients = np.einsum("nk,kcp->ncp", slopes(score, f), weights(model))
    np.testing.assert_allclose(norms, np.sqrt((gradients**2).sum(axis=(1, 2))), rtol=1e-4)
    np.testing.assert_allclose(values, BASE[score]().reference(f, f), rtol=1e-5)


def test_energy_at_another_temperature(images: npt.NDArray[np.uint8]) -> None:
    model = Linear()
    values, norms = gradient_norms(model, SPEC, "energy", images, {"temperature": 0.1})
    f = logits(model, images)
    gradients = np.einsum("nk,kcp->ncp", slopes("energy", 10 * f), weights(model))
    np.testing.assert_allclose(norms, np.sqrt((gradients**2).sum(axis=(1, 2))), rtol=1e-3)
    np.testing.assert_allclose(values, Energy(0.1).reference(f, f), rtol=1e-5)


def test_the_radius_of_a_linear_score_is_the_distance_to_the_threshold(images: npt.NDArray[np.uint8]) -> None:
    """Along the gradient, by that length, a linear score is at the threshold exactly."""
    model = Linear()
    with torch.no_grad():
        model.fc.weight[1:], model.fc.bias[0] = 0, 100  # the first logit is always the largest
    values, norms = gradient_norms(model, SPEC, "max_logit", images)
    radius = first_order_radius(values, 99.5, norms)
    direction = weights(model)[0].reshape(3, 4, 4).transpose(1, 2, 0) / norms[0]
    moved = images[0] / 255 - radius[0] * direction
    normalised = (moved - np.array(SPEC.mean)) / np.array(SPEC.std)
    f = model.fc.weight[0].detach().double().numpy() @ normalised.transpose(2, 0, 1).ravel() + 100
    assert f == pytest.approx(99.5, abs=1e-4)


def test_radius_by_hand() -> None:
    scores, norms = np.array([3.0, 1.0, 2.0, 5.0, 1.0, 2.0]), np.array([2.0, 4.0, 1.0, 0.0, 0.0, 0.0])
    np.testing.assert_array_equal(first_order_radius(scores, 2.0, norms), [0.5, -0.25, 0, np.inf, -np.inf, 0])
