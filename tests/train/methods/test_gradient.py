"""The gradient loss: on a linear model against its closed form, its derivative against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch import Tensor

from train.losses.gradient import gradient_loss, gradient_norms
from train.methods.energy import energy

ALL = torch.ones(7, dtype=torch.bool)


def linear(seed: int = 0, classes: int = 5) -> tuple[Tensor, Tensor]:
    """Weights (K, D) of f(x) = W x, and seven images (N, 3, 2, 2), so that D = 12; float64."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=(classes, 12))), torch.from_numpy(rng.normal(size=(7, 3, 2, 2)))


def norms(weight: Tensor, images: Tensor, detected: Tensor = ALL) -> Tensor:
    images = images.clone().requires_grad_()
    return gradient_norms(energy(images.flatten(1) @ weight.T), images, detected)


def closed_form(weight: Tensor, images: Tensor) -> np.ndarray:
    """||sum_k p_k w_k||, p = softmax(W x): the gradient of S_En = -logsumexp(W x) is -sum_k p_k w_k."""
    w, x = weight.detach().numpy(), images.flatten(1).numpy()
    norm: np.ndarray = np.linalg.norm(softmax(x @ w.T, axis=1) @ w, axis=1)
    return norm


def test_norms_on_a_linear_model() -> None:
    weight, images = linear()
    np.testing.assert_allclose(norms(weight, images).detach(), closed_form(weight, images), rtol=1e-12)


@pytest.mark.parametrize("reduction", ["sample", "batch"])
def test_derivative_with_respect_to_the_weights_equals_finite_differences(reduction: str) -> None:
    weight, images = linear()
    weight.requires_grad_()
    detected = torch.tensor([True, False, True, True, True, False, True])
    found = norms(weight, images, detected)
    gradient_loss(found[:4], found[4:], reduction).backward()  # type: ignore[arg-type]
    assert weight.grad is not None
    divisor = 1 if reduction == "sample" else 7

    def loss(w: Tensor) -> float:
        values = closed_form(w, images) * detected.numpy()
        return float(values[:4].sum() / 4 + values[4:].sum() / 3) / divisor

    step = 1e-6
    for k, d in np.ndindex(*weight.shape):
        ahead, behind = weight.detach().clone(), weight.detach().clone()
        ahead[k, d] += step
        behind[k, d] -= step
        assert weight.grad[k, d].item() == pytest.approx((loss(ahead) - loss(behind)) / (2 * step), rel=1e-5, abs=1e-9)


def test_derivative_of_one_image_in_closed_form() -> None:
    """g = W^T p has ||g|| with derivative dW = p u^T + (p * (W u) - p (p . W u)) x^T, u = g / ||g||."""
    weight, images = linear(seed=3)
    weight.requires_grad_()
    norms(weight, images[:1], ALL[:1]).sum().backward()
    w, x = weight.detach().numpy(), images[0].flatten().numpy()
    p = softmax(w @ x)
    u = w.T @ p / np.linalg.norm(w.T @ p)
    along = p * (w @ u) - p * (p @ (w @ u))
    np.testing.assert_allclose(weight.grad, np.outer(p, u) + np.outer(along, x), rtol=1e-10, atol=1e-14)


def test_images_not_detected_count_nothing_and_move_nothing() -> None:
    weight, images = linear()
    weight.requires_grad_()
    detected = torch.arange(7) < 3
    found = norms(weight, images, detected)
    assert found[3:].tolist() == [0] * 4
    found.sum().backward()
    of_all, weight.grad = weight.grad, None
    norms(weight, images[:3], ALL[:3]).sum().backward()
    torch.testing.assert_close(of_all, weight.grad, rtol=1e-12, atol=0)


def test_none_detected() -> None:
    weight, images = linear()
    weight.requires_grad_()
    found = norms(weight, images, ~ALL)
    gradient_loss(found[:4], found[4:]).backward()
    assert found.tolist() == [0] * 7
    assert weight.grad is not None
    assert not weight.grad.any()


def test_a_gradient_of_zero_has_a_finite_derivative() -> None:
    """Equal and opposite weights of two classes cancel where both are equally likely."""
    half = torch.arange(1.0, 13, dtype=torch.float64)
    weight = torch.stack([half, -half]).requires_grad_()
    found = norms(weight, torch.zeros(1, 3, 2, 2, dtype=torch.float64), ALL[:1])
    found.sum().backward()
    assert found.tolist() == [0]
    assert weight.grad is not None
    assert weight.grad.isfinite().all()


def test_means_are_of_each_side() -> None:
    assert gradient_loss(torch.tensor([1.0, 3.0]), torch.tensor([5.0, 0, 0, 0])).item() == 2 + 5 / 4


@pytest.mark.parametrize(("processes", "divisor"), [(1, 6), (3, 18)])
def test_reduction_over_the_batch_divides_by_all_its_images(processes: int, divisor: int) -> None:
    sides = torch.tensor([1.0, 3.0]), torch.tensor([5.0, 0, 0, 0])
    assert gradient_loss(*sides, "sample", processes).item() == 3.25
    assert gradient_loss(*sides, "batch", processes).item() == pytest.approx(3.25 / divisor)


def test_reduction_over_the_batch_is_that_of_the_released_code() -> None:
    """It differentiates mean(in) + mean(aux) of the scores, and averages the norms of the joint batch of equal halves."""
    weight, images = linear()
    images = images[:6]
    found = norms(weight, images, ALL[:6])
    leaf = images.clone().requires_grad_()
    score = energy(leaf.flatten(1) @ weight.T)
    (gradient,) = torch.autograd.grad(score[:3].mean() + score[3:].mean(), leaf)
    released = gradient.flatten(1).norm(dim=1).mean()
    assert gradient_loss(found[:3], found[3:], "batch").item() == pytest.approx(released.item(), rel=1e-12)


def test_an_image_not_detected_counts_nothing_where_the_images_are_tied_together() -> None:
    """As batch normalisation ties them: every score depends on the mean of all images."""
    weight, images = linear()
    images.requires_grad_()
    detected = torch.arange(7) < 3
    centred = (images - images.mean(dim=0)).flatten(1)
    found = gradient_norms(energy(centred @ weight.T), images, detected)
    w, x = weight.numpy(), centred.detach().numpy()
    gradients = (softmax(x @ w.T, axis=1) @ w)[:3]
    expected = np.linalg.norm(gradients - gradients.sum(axis=0) / 7, axis=1)
    np.testing.assert_allclose(found.detach(), [*expected, 0, 0, 0, 0], rtol=1e-12)
