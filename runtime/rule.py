"""The decision rule at one operating point: which threshold an image meets, and its p-value."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from runtime.engines.interface import Threshold
from runtime.manifest import Calibration, GateSpec

Classes = npt.NDArray[np.int64]


class Rule:
    """Thresholds and p-values by predicted class.

    A class with a threshold of its own also has its own p-values, of the calibration images predicted as it (Mondrian
    conformal prediction; Vovk, Gammerman & Shafer 2005, section 4.5); the others share those of all images. So a
    rejection is always a p-value of at most alpha.

    Args:
        labels: class names, in the order of the logits.
        gate: at the operating point.
        calibration: the order statistics.
    """

    def __init__(self, labels: tuple[str, ...], gate: GateSpec, calibration: Calibration) -> None:
        self._thresholds = thresholds(labels, gate)
        self.threshold: Threshold = self._thresholds if gate.classes else gate.threshold
        self._all = _statistics(calibration.ranks, calibration.quantiles[gate.score])
        self._own = {
            labels.index(label): _statistics(calibration.classes[label].ranks, calibration.classes[label].quantiles)
            for label in gate.classes
        }

    def thresholds(self, classes: Classes) -> npt.NDArray[np.float32]:
        """The threshold of each image, by its predicted class (N,)."""
        return self._thresholds[classes]

    def p_value(self, score: float, predicted: int) -> float:
        """The conformal p-value of an image (:func:`p_value`), from its gate score and class."""
        return p_value(score, *self._own.get(predicted, self._all))


def thresholds(labels: tuple[str, ...], gate: GateSpec) -> npt.NDArray[np.float32]:
    """The threshold of each predicted class, float32 (K,)."""
    return np.array(
        [gate.classes[label].threshold if label in gate.classes else gate.threshold for label in labels], np.float32
    )


def _statistics(ranks: tuple[int, ...], quantiles: tuple[float, ...]) -> tuple[tuple[int, ...], list[float]]:
    """Ranks and quantiles, these rounded as the scores are that they are compared with."""
    return ranks, np.array(quantiles, dtype=np.float32).tolist()


def p_value(score: float, ranks: Sequence[int], quantiles: Sequence[float]) -> float:
    """The conformal p-value of one score, (1 + #{calibration <= s}) / (n + 1), in [1 / (n + 1), 1].

    Where not every order statistic is stored, the count is rounded up to the next stored rank, which keeps
    P(p <= u) <= u for in-distribution images.

    Args:
        score: one that is not finite gets the smallest p-value.
        ranks: ascending 1-based ranks, the last is n.
        quantiles: calibration scores at these ranks, ascending.
    """
    if not math.isfinite(score):
        return 1 / (ranks[-1] + 1)
    at = bisect_right(quantiles, score)
    below = ranks[at] - 1 if at < len(ranks) else ranks[-1]
    return (1 + below) / (ranks[-1] + 1)
