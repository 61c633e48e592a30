"""Calibration: from the scores of in-distribution images to the gate of the manifest."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy.stats import beta

from export import conformal
from export.exceptions import ExportError
from runtime.manifest import (
    Calibration,
    Choice,
    ClassPoint,
    GateSpec,
    Manifest,
    OperatingPoint,
    OrderStatistics,
)


def calibrate(
    manifest: Manifest,
    scores: npt.NDArray[np.float32],
    score: str,
    alpha: float,
    *,
    pac: float | None = None,
    classes: npt.NDArray[np.int64] | None = None,
    choice: Choice | None = None,
) -> Manifest:
    """The manifest with gate and calibration fitted on the file's own outputs.

    With `classes`, every predicted class has a threshold of its own, fitted on the images predicted as it: split
    conformal prediction within each category (Mondrian; Vovk, Gammerman & Shafer 2005, section 4.5). A class with too
    few of them for an operating point shares the threshold of all images there.

    Args:
        manifest: of the file that computed `scores`.
        scores: float32 (n, S), the graph's output for in-distribution images that the model was not trained on.
        score: the gate's score, a column of `scores`.
        alpha: bound on the probability of rejecting an in-distribution image. :data:`export.conformal.ALPHAS` are stored
            too, but for those that n is too small for.
        pac: the confidence of PAC thresholds (:mod:`export.conformal`), those of classes each by itself; None for the
            marginal guarantee.
        classes: int64 (n,), predicted classes, for a class-conditional gate.
        choice: how `score` was chosen.

    Raises:
        ExportError: an unknown score.
        CalibrationError: too few images for alpha, or scores that are not finite.
    """
    if score not in manifest.scores:
        raise ExportError(f"unknown score {score!r}; the graph has {', '.join(manifest.scores)}")
    conformal.check_finite(scores)
    n, own = len(scores), scores[:, manifest.scores.index(score)]
    alpha = float(f"{alpha:.12g}")  # 0.1 + 0.2 is stored as 0.3, by which it is asked for, and 1 - 0.95 as 0.05
    alphas = sorted({alpha, *(other for other in conformal.ALPHAS if n >= conformal.smallest(other, pac))})
    members = {} if classes is None else _by_class(own, classes, manifest.labels)
    points = {other: _point(own, members, other, pac) for other in alphas}
    chosen = points.pop(alpha)
    ranks = _ranks(n, alphas, pac)
    ordered = np.sort(scores, axis=0)[ranks - 1]
    calibration = Calibration(
        n=n,
        ranks=tuple(ranks.tolist()),
        quantiles={name: _decimals(ordered[:, column]) for column, name in enumerate(manifest.scores)},
        classes={
            label: _order_statistics(values, alphas, pac)
            for label, values in members.items()
            if any(len(values) >= conformal.smallest(other, pac) for other in alphas)
        },
    )
    gate = GateSpec(
        score=score,
        threshold=chosen.threshold,
        alpha=alpha,
        tpr_target=1 - alpha,
        n_calibration=n,
        tpr_interval=chosen.tpr_interval,
        max_rejection=chosen.max_rejection,
        calibration=calibration,
        classes=chosen.classes,
        class_conditional=classes is not None,
        operating_points=tuple(points.values()),
        choice=choice,
        guarantee="marginal" if pac is None else "pac",
        confidence=pac,
    )
    return dataclasses.replace(manifest, gate=gate)


@cache
def tpr_interval(n: int, alpha: float, confidence: float = 0.95, pac: float | None = None) -> tuple[float, float]:
    """Central interval of the acceptance rate that a calibration set of n images realises.

    With the threshold's rank k (:func:`export.conformal.rank`) and continuous scores, the rate at which further
    in-distribution images are accepted is distributed as Beta(n + 1 - k, k) over draws of the calibration set (Vovk 2012,
    arXiv:1209.2673).
    """
    k = conformal.rank(n, alpha, pac)
    low, high = beta.interval(confidence, n + 1 - k, k)
    return float(low), float(high)


@cache
def max_rejection(n: int, alpha: float, confidence: float = 0.95, pac: float | None = None) -> float:
    """The largest rejection rate of in-distribution images compatible with a calibration set of n images.

    For continuous scores the realised rejection rate R = P(score < threshold | calibration set) is distributed as
    Beta(k, n + 1 - k) over draws of the calibration set, k being the threshold's rank; this is its upper quantile, so that
    R exceeds it for at most a share 1 - confidence of all calibration sets. Ties only lower R. (Vovk 2012,
    arXiv:1209.2673, proposition 2; the one-sided tolerance bound of Wilks 1941.) A PAC threshold of the same confidence
    keeps it at alpha or less.
    """
    k = conformal.rank(n, alpha, pac)
    return float(beta.ppf(confidence, k, n + 1 - k))


def _point(
    scores: npt.NDArray[np.float32],
    members: Mapping[str, npt.NDArray[np.float32]],
    alpha: float,
    pac: float | None,
) -> OperatingPoint:
    return OperatingPoint(
        alpha=alpha,
        threshold=_threshold(scores, alpha, pac),
        tpr_interval=tpr_interval(len(scores), alpha, pac=pac),
        max_rejection=max_rejection(len(scores), alpha, pac=pac),
        classes={
            label: ClassPoint(
                n=len(values),
                threshold=_threshold(values, alpha, pac),
                tpr_interval=tpr_interval(len(values), alpha, pac=pac),
                max_rejection=max_rejection(len(values), alpha, pac=pac),
            )
            for label, values in members.items()
            if len(values) >= conformal.smallest(alpha, pac)
        },
    )


def _threshold(scores: npt.NDArray[np.float32], alpha: float, pac: float | None) -> float:
    return conformal.threshold(conformal.lowered(scores), alpha, pac)


def _by_class(
    scores: npt.NDArray[np.float32], classes: npt.NDArray[np.int64], labels: Sequence[str]
) -> dict[str, npt.NDArray[np.float32]]:
    return {label: scores[classes == index] for index, label in enumerate(labels)}


def _ranks(n: int, alphas: Sequence[float], pac: float | None) -> npt.NDArray[np.int64]:
    """The stored ranks, with those of the thresholds: then a rejection is a p-value of at most alpha.

    With the marginal guarantee it is the only one that is, but for scores that are some last bits below the k-th smallest.
    """
    thresholds = [conformal.rank(n, alpha, pac) for alpha in alphas if n >= conformal.smallest(alpha, pac)]
    return np.union1d(conformal.stored_ranks(n), np.array(thresholds, dtype=np.int64))


def _order_statistics(scores: npt.NDArray[np.float32], alphas: Sequence[float], pac: float | None) -> OrderStatistics:
    ranks = _ranks(len(scores), alphas, pac)
    return OrderStatistics(len(scores), tuple(ranks.tolist()), _decimals(np.sort(scores)[ranks - 1]))


def _decimals(values: npt.NDArray[np.float32]) -> tuple[float, ...]:
    """The shortest decimals that read back as the same float32, half the size of the float64 ones."""
    return tuple(float(str(value)) for value in values)
