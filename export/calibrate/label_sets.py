"""Prediction sets: the labels that a known image may have, with a guarantee on how often the true one is among them.

Split conformal prediction with the probability of the true label as the score (LAC, the smallest sets on average: Sadinle,
Lei & Wasserman 2019, arXiv:1609.00451). The set of an image has every class with a probability of at least t, and the
likeliest class anyway, which only adds to the coverage. t is the floor((1 - coverage) (n + 1))-th smallest probability of
the true label among n images that the gate takes for known and that set neither its threshold nor the temperature. To them
the gate is a fixed rule, so that they are exchangeable with new in-distribution images that it takes for known, and the
promise is one for these.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from export import conformal
from runtime.exceptions import CalibrationError
from runtime.manifest import LabelSet

Array = npt.NDArray[np.float64]


def fit(probabilities: Array, labels: npt.NDArray[np.int64], coverage: float) -> LabelSet:
    """The label sets of one coverage.

    Args:
        probabilities: (n, K), reported for in-distribution images that the gate takes for known.
        labels: (n,), their true classes.
        coverage: the least probability that the set of a new such image has its true label.

    Raises:
        CalibrationError: too few images for the coverage.
    """
    missing = float(1 - Fraction(str(coverage)))  # 1 - 0.9 is 0.1, and not 0.09999999999999998
    if (n := len(labels)) < (needed := conformal.smallest(missing)):
        raise CalibrationError(
            f"{n} labelled images that the gate takes for known are too few for prediction sets of coverage {coverage:g}: at "
            f"least {needed} are needed; add images or lower the coverage"
        )
    least = conformal.threshold(conformal.lowered(probabilities[np.arange(n), labels]), missing)
    return LabelSet(coverage, least, n, float(np.maximum(1, (probabilities >= least).sum(axis=1)).mean()))
