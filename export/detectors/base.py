"""The six base out-of-distribution scores, as float64 references for what the exported graph computes.

Every score is a pure function of logits f (N, K) and penultimate activations a (N, D) and returns float64 (N,).
HIGHER MEANS MORE IN-DISTRIBUTION. All are finite for finite input of any magnitude.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]
Score = npt.NDArray[np.float64]


def msp(logits: Array, penultimate: Array) -> Score:
    """Maximum softmax probability, max_k softmax(f)_k, in [1/K, 1] (Hendrycks & Gimpel 2017)."""
    f = _float64(logits)
    return np.asarray(1 / np.exp(f - f.max(axis=1, keepdims=True)).sum(axis=1))


def max_logit(logits: Array, penultimate: Array) -> Score:
    """Maximum logit, max_k f_k (Hendrycks et al. 2022)."""
    return np.asarray(_float64(logits).max(axis=1))


def energy(logits: Array, penultimate: Array, temperature: float = 1.0) -> Score:
    """Negative free energy, T logsumexp(f / T) (Liu et al. 2020); GReg's S_En is its negation."""
    f = _float64(logits) / temperature
    top = f.max(axis=1)
    return np.asarray(temperature * (top + np.log(np.exp(f - top[:, None]).sum(axis=1))))


def joint_energy(logits: Array, penultimate: Array) -> Score:
    """Label-wise joint energy, sum_k log(1 + exp f_k), positive (Wang et al. 2021; SNoJoE eq. 9-10)."""
    f = _float64(logits)
    return np.asarray((np.maximum(f, 0) + np.log1p(np.exp(-np.abs(f)))).sum(axis=1))


def nan(logits: Array, penultimate: Array) -> Score:
    """Negative-aware norm, ||a||_1 / ||a||_0 with ||a||_0 = #{i: a_i > 0} (NAN eq. 9-10); 0 where no a_i > 0."""
    active = (np.asarray(penultimate) > 0).sum(axis=1)
    return np.where(active > 0, feature_norm(logits, penultimate) / np.maximum(active, 1), 0.0)


def feature_norm(logits: Array, penultimate: Array) -> Score:
    """Feature norm, ||a||_1 (NAN section 3)."""
    return np.asarray(np.abs(_float64(penultimate)).sum(axis=1))


SCORES: dict[str, Callable[..., Score]] = {
    "msp": msp,
    "max_logit": max_logit,
    "energy": energy,
    "joint_energy": joint_energy,
    "nan": nan,
    "feature_norm": feature_norm,
}


def compute(
    logits: Array,
    penultimate: Array,
    names: Sequence[str] = tuple(SCORES),
    parameters: Mapping[str, Mapping[str, float]] | None = None,
) -> Score:
    """The columns `names` of the graph's `scores` output.

    Args:
        logits: (N, K).
        penultimate: (N, D).
        names: keys of :data:`SCORES`.
        parameters: keyword arguments of a score, such as ``{"energy": {"temperature": 0.1}}``.

    Returns:
        float64 (N, len(names)).
    """
    parameters = parameters or {}
    return np.stack([SCORES[name](logits, penultimate, **parameters.get(name, {})) for name in names], axis=1)


def _float64(values: Array) -> Score:
    return np.asarray(values, dtype=np.float64)
