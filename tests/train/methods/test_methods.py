"""Methods: how they are chosen, and the loss each makes of a batch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.special import log_softmax, logsumexp, softmax
from sklearn.cluster import KMeans
from torch import Tensor, nn

from train import methods
from train.exceptions import TrainingError
from train.methods import Batch, Step

Floats = npt.NDArray[np.float64]

LOGITS = [[2.0, 1.0, -1.0], [0.0, 3.0, 0.5]]
LABELS = [0, 2]


class Fixed(nn.Module):
    """Answers with the same logits, whatever the image."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(LOGITS, dtype=dtype))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.logits.repeat(len(images) // 2, 1) + 0 * images.sum(), torch.zeros(len(images), 4)


class Linear(nn.Module):
    """f = W x, and the penultimate activations |V x|; in float64. Remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        rng = np.random.default_rng(0)
        self.w = nn.Parameter(torch.from_numpy(rng.normal(size=(4, 12))))
        self.v = torch.from_numpy(rng.normal(size=(5, 12)))
        self.calls: list[tuple[int, bool]] = []  # how many images, in training mode or not

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self.calls.append((len(images), self.training))
        x = images.flatten(1)
        return x @ self.w.T, (x @ self.v.T).abs()


BATCH = Batch(torch.zeros(2, 3, 8, 8), torch.tensor(LABELS), outliers=torch.zeros(2, 3, 8, 8))
HOT = torch.tensor([[1.0, 0, 1], [0, 0, 0]])


def batch_for(name: str) -> Batch:
    """Two images, with labels of the method's kind."""
    return BATCH if methods.METHODS[name].task == "multiclass" else replace(BATCH, labels=HOT)


def random_batch(known: int = 6, outliers: int = 5) -> Batch:
    """Images of twelve pixels for :class:`Linear`."""
    rng = np.random.default_rng(1)
    images, others = (torch.from_numpy(rng.normal(size=(n, 3, 2, 2))) for n in (known, outliers))
    return Batch(images, torch.from_numpy(rng.integers(0, 4, known)), others, seed=7)


@dataclass(frozen=True)
class Numbers:
    """What :class:`Linear` makes of images, worked out in numpy."""

    logits: Floats
    features: Floats
    energies: Floats
    confidences: Floats
    energy_gradients: Floats  # ||sum_k p_k w_k||
    confidence_gradients: Floats  # ||p_m (w_m - sum_k p_k w_k)||, m the class predicted

    @classmethod
    def of(cls, images: Tensor) -> Numbers:
        model = Linear()
        x, w = images.flatten(1).numpy(), model.w.detach().numpy()
        f = x @ w.T
        p = softmax(f, axis=1)
        top = p.argmax(axis=1)
        energy, confidence = p @ w, p.max(axis=1)[:, None] * (w[top] - p @ w)
        features = np.abs(x @ model.v.numpy().T)
        norms = (np.linalg.norm(gradient, axis=1) for gradient in (energy, confidence))
        return cls(f, features, -logsumexp(f, axis=1), p.max(axis=1), *norms)


def cross_entropy(logits: Floats, labels: Tensor) -> float:
    return float(-log_softmax(logits, axis=1)[np.arange(len(logits)), labels.numpy()].mean())


def hinges(known: Floats, outliers: Floats, m_in: float, m_aux: float) -> float:
    return float((np.maximum(0, known - m_in) ** 2).mean() + (np.maximum(0, m_aux - outliers) ** 2).mean())


def check_terms(step: Step, expected: dict[str, float]) -> None:
    assert {name: term.item() for name, term in step.terms.items()} == pytest.approx(expected, rel=1e-10)
    assert all(value != 0 for value in expected.values())
    assert step.loss.item() == pytest.approx(sum(expected.values()), rel=1e-10)


def mean_loss(scale: Callable[[list[float]], float]) -> float:
    """-log softmax of the label, of logits times `scale` of their row."""
    losses = []
    for row, label in zip(LOGITS, LABELS, strict=True):
        scaled = [scale(row) * value for value in row]
        losses.append(math.log(sum(map(math.exp, scaled))) - scaled[label])
    return sum(losses) / len(losses)


def test_cross_entropy() -> None:
    step = methods.make("cross-entropy", {}).step(Fixed(), BATCH)
    assert step.loss.item() == pytest.approx(mean_loss(lambda _: 1), rel=1e-6)
    assert step.logits.tolist() == LOGITS


@pytest.mark.parametrize(("options", "tau"), [({}, 0.04), ({"tau": 1}, 1), ({"tau": 0.5}, 0.5)])
def test_logitnorm(options: dict[str, float], tau: float) -> None:
    step = methods.make("logitnorm", options).step(Fixed(), BATCH)
    assert step.loss.item() == pytest.approx(mean_loss(lambda row: 1 / (tau * math.hypot(*row))), rel=1e-5)
    assert step.logits.tolist() == LOGITS


def test_logit_penalty() -> None:
    step = methods.make("logit-penalty", {"weight": 0.5}).step(Fixed(), BATCH)
    norm = sum(math.hypot(*row) for row in LOGITS) / 2
    assert step.loss.item() == pytest.approx(mean_loss(lambda _: 1) + 0.5 * norm, rel=1e-6)


def test_energy() -> None:
    """Images and outliers get the same logits here, so both hinges see the same energies."""
    step = methods.make("energy", {"weight": 2.0, "m_in": -3.0, "m_aux": -1.0}).step(Fixed(), BATCH)
    energies = [-float(logsumexp(row)) for row in LOGITS]
    both = [max(0, e + 3) ** 2 + max(0, -1 - e) ** 2 for e in energies]
    assert step.loss.item() == pytest.approx(mean_loss(lambda _: 1) + 2 * sum(both) / 2, rel=1e-6)
    assert step.logits.tolist() == LOGITS


def test_outlier_exposure() -> None:
    step = methods.make("oe", {"weight": 0.25}).step(Fixed(), BATCH)
    uniform = sum(float(logsumexp(row)) - sum(row) / 3 for row in LOGITS) / 2
    assert step.loss.item() == pytest.approx(mean_loss(lambda _: 1) + 0.25 * uniform, rel=1e-6)


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
    options = {"weight": 0.3, "confident": 0.8, "uncertain": 0.9, "gradient_weight": 0.7, "reduction": reduction}
    step = methods.make("greg-oe", options).step(model, batch)
    known, aux = Numbers.of(batch.images), Numbers.of(batch.outliers)
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


@pytest.mark.parametrize("name", ["bce", "snojoe"])
def test_binary_cross_entropy(name: str) -> None:
    step = methods.make(name, {}).step(Fixed(), batch_for(name))
    each = [
        math.log1p(math.exp(-f if hot else f)) for f, hot in zip(itertools.chain(*LOGITS), HOT.flatten(), strict=True)
    ]
    assert step.loss.item() == pytest.approx(sum(each) / 6, rel=1e-6)
    assert step.logits.tolist() == LOGITS


@pytest.mark.parametrize("name", methods.METHODS)
def test_losses_are_float32_where_the_network_is_not(name: str) -> None:
    step = methods.make(name, {}).step(Fixed(torch.bfloat16), batch_for(name))
    assert step.loss.dtype == step.logits.dtype == torch.float32


@pytest.mark.parametrize("name", methods.METHODS)
def test_the_loss_can_be_descended(name: str) -> None:
    model = Fixed()
    methods.make(name, {}).step(model, batch_for(name)).loss.backward()
    assert model.logits.grad is not None
    assert model.logits.grad.any()


def test_unknown_method_lists_the_known() -> None:
    with pytest.raises(TrainingError, match=r"'crossentropy'; choose one of cross-entropy, logitnorm"):
        methods.make("crossentropy", {})


def test_unknown_hyperparameter_lists_the_known() -> None:
    with pytest.raises(TrainingError, match=r"'logitnorm' has no hyperparameter 'temperature'; it has \['tau'\]"):
        methods.make("logitnorm", {"temperature": 1.0})


def test_hyperparameter_of_a_method_that_has_none() -> None:
    with pytest.raises(TrainingError, match=r"'cross-entropy' has no hyperparameter 'tau'; it has \[\]"):
        methods.make("cross-entropy", {"tau": 1.0})
