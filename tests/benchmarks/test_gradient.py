"""Input gradients against the closed form of a linear model: grad_x energy = sum_k p_k w_k, through the normalisation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from benchmarks.gradient import SCORES, first_order_radius, gradient_norms
from export.detectors import base as references
from runtime.manifest import InputSpec
from train.normalize import Normalize

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
    np.testing.assert_allclose(values, references.SCORES[score](f, f), rtol=1e-5)


def test_energy_at_another_temperature(images: npt.NDArray[np.uint8]) -> None:
    model = Linear()
    values, norms = gradient_norms(model, SPEC, "energy", images, {"temperature": 0.1})
    f = logits(model, images)
    gradients = np.einsum("nk,kcp->ncp", slopes("energy", 10 * f), weights(model))
    np.testing.assert_allclose(norms, np.sqrt((gradients**2).sum(axis=(1, 2))), rtol=1e-3)
    np.testing.assert_allclose(values, references.energy(f, f, temperature=0.1), rtol=1e-5)


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
