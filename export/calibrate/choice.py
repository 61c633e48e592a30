"""Choosing a gate's score and the energy's temperature: by AUROC between in-distribution images and outliers.

The outliers are auxiliary ones or made from the in-distribution images (:mod:`export.images.outliers`), never those that
the gate is evaluated on; the in-distribution images are not those that set its threshold
(:mod:`export.calibrate.gating`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from export.detectors.base import Energy
from export.detectors.choosing import auroc
from runtime.engines.interface import Outputs
from runtime.manifest import Choice

# From almost the maximum logit to almost their mean, for logits between 0.1 and 100; 1 is the paper's.
TEMPERATURES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)

_EVEN = 1e-3  # of AUROC


def compare_temperatures(known: Outputs, outliers: Mapping[str, Outputs]) -> dict[float, float]:
    """The mean AUROC of the energy score over the outlier sets, for each of :data:`TEMPERATURES`, in float64."""

    def mean_auroc(temperature: float) -> float:
        scores = _energy(known, temperature)
        return float(np.mean([auroc(scores, _energy(part, temperature)) for part in outliers.values()]))

    return {temperature: mean_auroc(temperature) for temperature in TEMPERATURES}


def with_energy(outputs: Outputs, column: int, temperature: float) -> Outputs:
    """The same outputs with the energy score, column `column`, at another temperature."""
    scores = outputs.scores.copy()
    scores[:, column] = _energy(outputs, temperature)
    return dataclasses.replace(outputs, scores=scores)


def compare(
    names: Sequence[str], known: Outputs, outliers: Mapping[str, Outputs], temperatures: Mapping[float, float]
) -> Choice:
    """The AUROC of every score against every outlier set.

    Args:
        names: of the columns of `scores`.
        known, outliers: outputs for in-distribution images, all scores finite, and for each set of outliers.
        temperatures: the result of :func:`compare_temperatures`, to be kept.
    """
    return Choice(
        n=len(known.scores),
        outliers={name: len(part.scores) for name, part in outliers.items()},
        auroc={
            name: {score: auroc(known.scores[:, i], part.scores[:, i]) for i, score in enumerate(names)}
            for name, part in outliers.items()
        },
        temperatures={f"{temperature:g}": value for temperature, value in temperatures.items()},
    )


def best_temperature(temperatures: Mapping[float, float]) -> float:
    """Of those whose AUROC is within :data:`_EVEN` of the largest the one nearest to 1, then the smaller.

    A difference so small is chance, and scores at a large T are T log K and little else, which float32 tells apart badly:
    images tie at the threshold, and other engines decide otherwise.
    """
    least = max(temperatures.values()) - _EVEN
    even = [temperature for temperature, value in temperatures.items() if value >= least]
    return min(even, key=lambda t: (abs(np.log(t)), t))


def best_score(choice: Choice) -> str:
    """The candidate with the largest mean AUROC over the outlier sets, as the table calls it; of equals the first."""
    first, *_ = choice.auroc.values()
    return max(first, key=lambda score: np.mean([table[score] for table in choice.auroc.values()]))


def _energy(outputs: Outputs, temperature: float) -> npt.NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # infinite logits become NaN, and their image is rejected
        return Energy(temperature).reference(outputs.logits, outputs.logits)
