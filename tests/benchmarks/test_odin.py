"""ODIN against the closed form for a linear network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from torch import Tensor, nn

from benchmarks.odin import main, odin
from export.from_torch.network.backbone import Backbone
from tests.commands import failure
from tests.export.conftest import Sources, call
from tests.small import SPEC, calibration_images


class Linear(nn.Module):
    """logits = W x of the normalised pixels."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(3 * 16 * 16, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        flat = x.flatten(1)
        return self.fc(flat), flat


@pytest.mark.parametrize(("temperature", "epsilon"), [(1, 0.01), (1000, 0.0014), (10, 0.0)])
def test_a_linear_network(temperature: float, epsilon: float) -> None:
    """grad log max softmax(f / T) = (w_y - sum_k p_k w_k) / T, whose sign the normalisation does not change."""
    network, images = Linear(), calibration_images(20)
    weights, bias = (parameter.detach().double().numpy() for parameter in network.fc.parameters())
    mean, std = (np.array(value)[:, None, None] for value in (SPEC.mean, SPEC.std))
    x = ((images / 255).transpose(0, 3, 1, 2) - mean) / std
    logits = x.reshape(20, -1) @ weights.T + bias
    p = softmax(logits / temperature, axis=1)
    step = np.sign(weights[logits.argmax(axis=1)] - p @ weights).reshape(x.shape) / std
    expected = softmax(((x + epsilon * step).reshape(20, -1) @ weights.T + bias) / temperature, axis=1).max(axis=1)
    found = odin(Backbone(network, SPEC).eval(), torch.from_numpy(images), temperature, epsilon, "multiclass")
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4 / temperature)
    assert (expected >= p.max(axis=1) - 1e-12).all()


@pytest.mark.parametrize(("temperature", "epsilon"), [(1, 0.01), (1000, 0.0014), (10, 0.0)])
def test_several_labels(temperature: float, epsilon: float) -> None:
    """grad log max_k sigmoid(f_k / T) = (1 - sigmoid(f_y / T)) w_y / T, whose sign is w_y's."""
    network, images = Linear(), calibration_images(20)
    weights, bias = (parameter.detach().double().numpy() for parameter in network.fc.parameters())
    mean, std = (np.array(value)[:, None, None] for value in (SPEC.mean, SPEC.std))
    x = ((images / 255).transpose(0, 3, 1, 2) - mean) / std
    logits = x.reshape(20, -1) @ weights.T + bias
    step = np.sign(weights[logits.argmax(axis=1)]).reshape(x.shape) / std
    expected = expit(((x + epsilon * step).reshape(20, -1) @ weights.T + bias) / temperature).max(axis=1)
    found = odin(Backbone(network, SPEC).eval(), torch.from_numpy(images), temperature, epsilon, "multilabel")
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)
    if not epsilon:
        np.testing.assert_array_equal(found.numpy().argsort(), logits.max(axis=1).argsort())


def test_command(checkpoint_file: Path, sources: Sources) -> None:
    output = call(main, checkpoint_file, "--id", f"{sources.val}@2/2", "--ood", f"noise={sources.noise}")
    assert "torch only: not a score of the bundle" in output
    assert "noise: AUROC " in output


@pytest.mark.parametrize("options", [["--temperature", "0"], ["--epsilon", "-1"], ["--temperature", "nan"]])
def test_wrong_options(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    message = failure(capsys, main, "x", "--id", "x", "--ood", "far=x", *options)
    assert "expected temperature > 0 and epsilon >= 0" in message
