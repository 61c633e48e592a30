"""How far one engine's outputs may be from another's, by what it computes in. The one place: start-up, selftest, service."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from runtime.manifest import Precision

Values = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Tolerance:
    """The largest difference that rounding explains.

    Attributes:
        logits: as a share of the range of all expected logits.
        scores: as a share of a score's largest magnitude among all expected ones.
    """

    logits: float
    scores: float


# Beyond these an engine computes something else. Between fp32 and bf16 lies what tells the two apart.
_CPU: dict[Precision, Tolerance] = {
    "fp32": Tolerance(5e-5, 1e-3),
    "fp16": Tolerance(0.01, 0.02),
    "bf16": Tolerance(0.1, 0.2),
    "int8": Tolerance(0.1, 0.2),
}
_GPU = Tolerance(0.1, 0.2)  # whose fp32 may be TF32
REPEATED = _CPU["fp32"]
"""Between two answers of one engine on the same pixels, in batches of different sizes."""


def tolerance(precision: Precision, *, gpu: bool) -> Tolerance:
    """Of an engine that computes in `precision`, against ONNX Runtime on a CPU, or OpenVINO for bf16."""
    return _GPU if gpu else _CPU[precision]


def difference(found: Values, expected: Values, unit: float) -> float:
    """The largest difference, in units of `unit`; infinite where one of two numbers is not finite.

    Numbers that are not finite in both are the same.
    """
    known = np.isfinite(expected)
    if not np.array_equal(known, np.isfinite(found)):
        return float("inf")
    gaps = np.abs(np.asarray(found, np.float64)[known] - np.asarray(expected, np.float64)[known])
    return float(np.max(gaps, initial=0.0)) / max(unit, 1e-6)


def extent(values: Values) -> float:
    """The range of the finite ones; 0 where there are none."""
    finite = values[np.isfinite(values)]
    return float(np.ptp(finite)) if finite.size else 0.0
