"""Networks whose losses can be worked out by hand, a batch for each, and numbers made of them in numpy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.special import log_softmax, logsumexp, softmax
from torch import Tensor, nn

from train import methods
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
