"""The gradient loss: on a linear model against its closed form, its derivative against finite differences."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from sklearn.cluster import KMeans
from torch import Tensor

from tests.train.methods.examples import Linear, Numbers, check_terms, cross_entropy, hinges, random_batch
from train import methods, models
from train.exceptions import TrainingError
from train.methods import Batch
from train.methods.energy import energy
from train.methods.greg import gradient_loss, gradient_norms

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


@pytest.mark.parametrize(("reduction", "divisor"), [("sample", 1), ("batch", 11)])
def test_greg(reduction: str, divisor: int) -> None:
    batch, model = random_batch(), Linear()
    options = {"weight": 0.3, "m_in": -2.5, "m_aux": -2.5, "gradient_weight": 0.7, "reduction": reduction}
    step = methods.make("greg", options).step(model, batch)
    known, aux = Numbers.of(batch.images), Numbers.of(batch.outliers)
    inside, outside = known.energies <= -2.5, aux.energies >= -2.5
    assert 0 < inside.sum() < 6
    assert 0 < outside.sum() < 5
    gradient = (known.energy_gradients * inside).mean() + (aux.energy_gradients * outside).mean()
    check_terms(
        step,
        {
            "cross_entropy": cross_entropy(known.logits, batch.labels),
            "energy": 0.3 * hinges(known.energies, aux.energies, -2.5, -2.5),
            "gradient": 0.7 * gradient / divisor,
        },
    )
    np.testing.assert_allclose(step.logits.detach(), known.logits)
    assert model.calls == [(11, True)]  # one forward pass over both


@pytest.mark.parametrize(("reduction", "divisor"), [("sample", 1), ("batch", 11)])
def test_greg_with_outlier_exposure(reduction: str, divisor: int) -> None:
    batch, model = random_batch(), Linear()
    known, aux = Numbers.of(batch.images), Numbers.of(batch.outliers)
    chance = 1 / known.logits.shape[1]
    options = {"weight": 0.3, "confident": 0.8, "gradient_weight": 0.7, "reduction": reduction}
    step = methods.make("greg-oe", {**options, "uncertain": (0.9 - chance) / (1 - chance)}).step(model, batch)
    inside, outside = known.confidences >= 0.8, aux.confidences <= 0.9
    assert 0 < inside.sum() < 6
    assert 0 < outside.sum() < 5
    gradient = (known.confidence_gradients * inside).mean() + (aux.confidence_gradients * outside).mean()
    uniform = -log_softmax(aux.logits, axis=1).mean()
    check_terms(
        step,
        {
            "cross_entropy": cross_entropy(known.logits, batch.labels),
            "exposure": 0.3 * uniform,
            "gradient": 0.7 * gradient / divisor,
        },
    )
    assert model.calls == [(11, True)]


@pytest.mark.parametrize(("reduction", "divisor"), [("sample", 1), ("batch", 12)])
def test_greg_plus(reduction: str, divisor: int) -> None:
    """Of each cluster the lowest energy is in the energy loss, the highest in the gradient loss."""
    batch, model = random_batch(known=6, outliers=40), Linear()
    options = {"weight": 0.3, "m_in": -2.5, "m_aux": -2.0, "gradient_weight": 0.7, "reduction": reduction}
    step = methods.make("greg+", options).step(model, batch)
    known, aux = Numbers.of(batch.images), Numbers.of(batch.outliers)
    unit = aux.features / np.linalg.norm(aux.features, axis=1, keepdims=True)
    clusters = KMeans(6, n_init=1, random_state=7).fit_predict(unit)
    members = [np.flatnonzero(clusters == j) for j in range(6)]
    lowest = [of[aux.energies[of].argmin()] for of in members]
    highest = [of[aux.energies[of].argmax()] for of in members]
    inside, outside = known.energies <= -2.5, aux.energies[highest] >= -2
    assert 0 < inside.sum() < 6
    assert 0 < outside.sum() < 6
    gradient = (known.energy_gradients * inside).mean() + (aux.energy_gradients[highest] * outside).mean()
    check_terms(
        step,
        {
            "cross_entropy": cross_entropy(known.logits, batch.labels),
            "energy": 0.3 * hinges(known.energies, aux.energies[lowest], -2.5, -2),
            "gradient": 0.7 * gradient / divisor,
        },
    )
    assert model.calls == [(40, False), (18, True)]  # the candidates, then what is trained on


def test_greg_plus_with_fewer_candidates_than_images() -> None:
    batch, model = random_batch(known=6, outliers=2), Linear()
    step = methods.make("greg+", {"m_in": -2.5, "m_aux": -20.0, "gradient_weight": 0.7}).step(model, batch)
    known, aux = Numbers.of(batch.images), Numbers.of(batch.outliers)
    gradient = (known.energy_gradients * (known.energies <= -2.5)).mean() + aux.energy_gradients.mean()
    assert step.terms["gradient"].item() == pytest.approx(0.7 * gradient, rel=1e-10)
    assert model.calls == [(2, False), (10, True)]


@pytest.mark.parametrize(("share", "count"), [(1, 32), (32, 32), (33, 33)])
def test_greg_plus_draws_candidates(share: int, count: int) -> None:
    assert methods.make("greg+", {}).outliers(8, share) == count
    assert methods.make("greg+", {"candidates": 2.5}).outliers(8, 1) == 20


@pytest.mark.parametrize("name", ["greg", "greg-oe", "greg+"])
def test_the_gradient_term_reaches_the_weights(name: str) -> None:
    margins = {"m_in": 0.0, "m_aux": -20.0} if name != "greg-oe" else {"confident": 0.0, "uncertain": 1.0}
    model = Linear()
    step = methods.make(name, {**margins, "gradient_weight": 1.0}).step(model, random_batch())
    (gradient,) = torch.autograd.grad(step.terms["gradient"], model.w)
    assert gradient.any()


@pytest.mark.parametrize(("name", "plain"), [("greg", "energy"), ("greg-oe", "oe")])
def test_a_weight_of_zero_watches_the_norms_and_teaches_nothing(name: str, plain: str) -> None:
    margins = {"m_in": 0.0, "m_aux": -20.0} if name == "greg" else {"confident": 0.0, "uncertain": 1.0}
    model = Linear()
    steps = [methods.make(name, {**margins, "gradient_weight": w}).step(model, random_batch()) for w in (0.0, 1.0)]
    assert {k: v.item() for k, v in steps[0].figures.items()} == {k: v.item() for k, v in steps[1].figures.items()}
    shared = {key: value for key, value in margins.items() if key.startswith("m_")}
    (expected,) = torch.autograd.grad(methods.make(plain, shared).step(model, random_batch()).loss, model.w)
    (found,) = torch.autograd.grad(steps[0].loss, model.w)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("clusters", [0, 3])
def test_greg_plus_takes_two_outliers_of_each_of_so_many_clusters(clusters: int) -> None:
    batch, model = random_batch(known=6, outliers=40), Linear()
    methods.make("greg+", {"clusters": clusters}).step(model, batch)
    assert model.calls == [(40, False), (6 + 2 * (clusters or 6), True)]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("greg+", {"clusters": -1}, "clusters must be at least 1, or 0 for one each image, found -1"),
        ("greg+", {"clusters": 2.5}, "clusters of method 'greg+' must be a whole number"),
        ("greg+", {"outliers_per_image": 2}, "set candidates or clusters instead"),
        ("energy", {"outliers_per_image": 0}, "outliers_per_image must be positive, found 0"),
        ("greg-oe", {"outliers_per_image": -1}, "outliers_per_image must be positive, found -1"),
    ],
)
def test_how_many_outliers_must_make_sense(name: str, options: dict[str, float], message: str) -> None:
    with pytest.raises(TrainingError, match=re.escape(message)):
        methods.make(name, options)


def test_greg_plus_leaves_frozen_layers_frozen() -> None:
    model = models.make("resnet20", 3)
    frozen = model.get_submodule("bn1").eval()
    batch = Batch(torch.rand(4, 3, 8, 8), torch.arange(4) % 3, torch.rand(8, 3, 8, 8))
    methods.make("greg+", {}).step(model, batch)
    assert [module for module in model.modules() if not module.training] == [frozen]
