"""The scores that follow from logits and penultimate activations alone, in float64: what a graph's are held against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.manifest import Manifest

Values = npt.NDArray[np.floating]
Score = npt.NDArray[np.float64]


def msp(logits: Values) -> Score:
    """Maximum softmax probability, max_k softmax(f)_k, in [1/K, 1]: (N, K) -> (N,) (Hendrycks & Gimpel 2017)."""
    f = _float64(logits)
    return np.asarray(1 / np.exp(f - f.max(axis=1, keepdims=True)).sum(axis=1))


def max_logit(logits: Values) -> Score:
    """Maximum logit, max_k f_k: (N, K) -> (N,) (Hendrycks et al. 2022)."""
    return np.asarray(_float64(logits).max(axis=1))


def energy(logits: Values, temperature: float = 1.0) -> Score:
    """Negative free energy, T logsumexp(f / T): (N, K) -> (N,) (Liu et al. 2020)."""
    f = _float64(logits) / temperature
    top = f.max(axis=1)
    return np.asarray(temperature * (top + np.log(np.exp(f - top[:, None]).sum(axis=1))))


def joint_energy(logits: Values) -> Score:
    """Label-wise joint energy, sum_k log(1 + exp f_k): (N, K) -> (N,) (Wang et al. 2021)."""
    f = _float64(logits)
    return np.asarray((np.maximum(f, 0) + np.log1p(np.exp(-np.abs(f)))).sum(axis=1))


def feature_norm(penultimate: Values) -> Score:
    """Feature norm, ||a||_1: (N, D) -> (N,) (NAN section 3)."""
    return np.asarray(np.abs(_float64(penultimate)).sum(axis=1))


def negative_aware_norm(penultimate: Values) -> Score:
    """||a||_1 / ||a||_0 with ||a||_0 = #{i: a_i > 0}, 0 where no a_i > 0: (N, D) -> (N,) (NAN eq. 9-10)."""
    active = (np.asarray(penultimate) > 0).sum(axis=1)
    return np.where(active > 0, feature_norm(penultimate) / np.maximum(active, 1), 0.0)


def largest_error(manifest: Manifest, logits: Values, penultimate: Values, scores: Values) -> float:
    """How far a graph's scores are from these definitions on its own logits and activations.

    Args:
        manifest: of the graph, which names the columns of `scores`; others than these six are passed over.
        logits: (N, K).
        penultimate: (N, D).
        scores: (N, S).

    Returns:
        the largest difference, relative where a score is beyond 1; 0 where no column is known.
    """
    known: Mapping[str, Any] = {
        "msp": lambda **_: msp(logits),
        "max_logit": lambda **_: max_logit(logits),
        "energy": lambda temperature=1.0: energy(logits, temperature),
        "joint_energy": lambda **_: joint_energy(logits),
        "feature_norm": lambda **_: feature_norm(penultimate),
        "nan": lambda **_: negative_aware_norm(penultimate),
    }
    largest = 0.0
    for column, name in enumerate(manifest.scores):
        if name in known:
            expected = known[name](**manifest.score_parameters.get(name, {}))
            errors = np.abs(scores[:, column] - expected) / np.maximum(1, np.abs(expected))
            largest = float(np.max(errors, initial=largest))
    return largest


def _float64(values: Values) -> npt.NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64)
