"""How the reported confidence was calibrated."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Confidence:
    """How the reported confidence was calibrated.

    Attributes:
        temperature: T of the reported probabilities, softmax(f / T) or sigmoid(f / T).
        n: number of labelled images that it was fitted on.
        ece_before, ece_after: expected calibration error on these images, with 15 bins
            (:func:`export.calibrate.confidence.expected_calibration_error`), at T = 1 and at `temperature`.
    """

    temperature: float
    n: int
    ece_before: float
    ece_after: float

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature must be positive, found {self.temperature}")
