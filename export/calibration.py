"""Calibration: from the scores of in-distribution images to the gate of the manifest."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import beta

from export.exceptions import ExportError
from runtime import conformal
from runtime.manifest import Calibration, GateSpec, Manifest


def calibrate(manifest: Manifest, scores: npt.NDArray[np.float32], score: str, alpha: float) -> Manifest:
    """The manifest with gate and calibration fitted on the file's own outputs.

    Args:
        manifest: of the file that computed `scores`.
        scores: float32 (n, S), the graph's output for in-distribution images that the model was not trained on.
        score: the gate's score, a column of `scores`.
        alpha: bound on the probability of rejecting an in-distribution image.

    Raises:
        ExportError: an unknown score.
        CalibrationError: too few images for alpha, or scores that are not finite.
    """
    if score not in manifest.scores:
        raise ExportError(f"unknown score {score!r}; the graph has {', '.join(manifest.scores)}")
    conformal.check_finite(scores)
    n = len(scores)
    gate = GateSpec(
        score=score,
        threshold=conformal.threshold(scores[:, manifest.scores.index(score)], alpha),
        alpha=alpha,
        tpr_target=1 - alpha,
        n_calibration=n,
        tpr_interval=tpr_interval(n, alpha),
    )
    return dataclasses.replace(manifest, gate=gate, calibration=_order_statistics(scores, manifest.scores))


def tpr_interval(n: int, alpha: float, confidence: float = 0.95) -> tuple[float, float]:
    """Central interval of the acceptance rate that a calibration set of n images realises.

    With k = floor(alpha (n + 1)) and continuous scores, the rate at which further in-distribution images are accepted
    is distributed as Beta(n + 1 - k, k) over draws of the calibration set (Vovk 2012, arXiv:1209.2673).
    """
    k = conformal.rank(n, alpha)
    low, high = beta.interval(confidence, n + 1 - k, k)
    return float(low), float(high)


def _order_statistics(scores: npt.NDArray[np.float32], names: Sequence[str]) -> Calibration:
    ranks = conformal.stored_ranks(len(scores))
    ordered = np.sort(scores, axis=0)[ranks - 1]
    return Calibration(
        n=len(scores),
        ranks=tuple(ranks.tolist()),
        quantiles={name: tuple(map(_shortest, ordered[:, column])) for column, name in enumerate(names)},
    )


def _shortest(value: np.float32) -> float:
    """The shortest decimal that reads back as the same float32, half the size of the float64 one."""
    return float(str(value))
