"""Confidence: how far a classifier's probabilities are from the truth, and the temperature that brings them closer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import expit, logsumexp, softmax

from runtime.manifest import Confidence, Task
from train.data import Labels

Array = npt.NDArray[np.float64]
BINS = 15


def expected_calibration_error(confidence: npt.NDArray[np.floating], correct: npt.NDArray[np.bool_]) -> float:
    """ECE = sum_b n_b / n |accuracy(b) - confidence(b)| over 15 bins of equal width, in [0, 1] (Guo et al. 2017, eq. 3).

    Bin b of B holds the predictions with a confidence in ((b - 1) / B, b / B], the first one 0 too.

    Args:
        confidence: (n,) probabilities of the predicted classes.
        correct: bool (n,) whether these were right.
    """
    bins = np.ceil(confidence * BINS).astype(np.int64).clip(1, BINS) - 1
    gaps = np.bincount(bins, weights=correct - np.asarray(confidence, dtype=np.float64), minlength=BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def fit(logits: npt.NDArray[np.float32], labels: Labels, task: Task) -> Confidence | None:
    """The temperature T that minimises the negative log-likelihood of softmax(f / T) (Guo et al. 2017, section 4.2).

    For multi-label models that of sigmoid(f / T) over all labels. ECE is that of the reported confidence, the largest
    probability, which is right where the image has that label. In 1 / T the likelihood is convex; it has no minimum
    where every image is classified right, or no better than by chance.

    Args:
        logits: (n, K).
        labels: the true classes, int64 (n,); or multi-hot bool (n, K), for multi-label models alone.
        task: of the model.

    Returns:
        None where there is no minimum.
    """
    f = np.asarray(logits, dtype=np.float64)
    truth = _truth(labels, f.shape[1])
    probabilities: Callable[[Array], Array] = expit if task == "multilabel" else _softmax
    inverse = _root(lambda b: float((f * (probabilities(b * f) - truth)).sum()))
    if inverse is None:
        return None
    right = truth[np.arange(len(f)), f.argmax(axis=1)]
    before, after = (expected_calibration_error(probabilities(b * f).max(axis=1), right) for b in (1.0, inverse))
    return Confidence(1 / inverse, len(f), before, after)


def choose(logits: npt.NDArray[np.float32], labels: Labels, task: Task, seed: int = 0) -> Confidence | None:
    """The temperature of :func:`fit`, if it helps on images that did not set it, and otherwise T = 1.

    Each random half is scaled by the temperature that the other half sets. All images together set the temperature where that
    lowers both negative log-likelihood and ECE, each the mean of the two halves'.

    Args:
        logits, labels, task: as :func:`fit` takes them.
        seed: of the halves.

    Returns:
        with an ECE of images that did not set the temperature; None where all images, or one half, set none.
    """
    order = np.random.default_rng(seed).permutation(len(logits))
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    fitted, first, second = (fit(logits[part], labels[part], task) for part in (order, *halves))
    if fitted is None or first is None or second is None:
        return None
    own, scaled = [], []
    for half, other in zip(halves, (second, first), strict=True):
        f = np.asarray(logits[half], dtype=np.float64)
        own.append(_figures(f, labels[half], task))
        scaled.append(_figures(f / other.temperature, labels[half], task))
    before, after = np.mean(own, axis=0), np.mean(scaled, axis=0)
    if not (after < before).all():
        return Confidence(1.0, len(logits), float(before[1]), float(before[1]), held_out=True)
    return dataclasses.replace(fitted, ece_before=float(before[1]), ece_after=float(after[1]), held_out=True)


def _figures(f: Array, labels: Labels, task: Task) -> tuple[float, float]:
    """The negative log-likelihood and the ECE of softmax(f), or sigmoid(f)."""
    truth = _truth(labels, f.shape[1])
    right = truth[np.arange(len(f)), f.argmax(axis=1)]
    if task == "multilabel":
        loss = np.logaddexp(0, np.where(truth, -f, f)).sum(axis=1)
        return float(loss.mean()), expected_calibration_error(expit(f).max(axis=1), right)
    loss = logsumexp(f, axis=1) - np.where(truth, f, 0).sum(axis=1)
    return float(loss.mean()), expected_calibration_error(_softmax(f).max(axis=1), right)


def _truth(labels: Labels, classes: int) -> npt.NDArray[np.bool_]:
    return labels.astype(np.bool_) if labels.ndim == 2 else np.asarray(np.arange(classes) == labels[:, None])


def _root(slope: Callable[[float], float]) -> float | None:
    """Where an increasing function of b > 0 crosses zero; None where it does not between 1e-6 and 1e6."""
    low, high = 1e-6, 1e6
    if not slope(low) < 0 < slope(high):
        return None
    return float(np.exp(brentq(lambda log: slope(float(np.exp(log))), np.log(low), np.log(high), xtol=1e-12)))


def _softmax(f: Array) -> Array:
    return np.asarray(softmax(f, axis=1))
