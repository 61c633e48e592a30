"""The gate score's distribution on the calibration images, as few numbers as a picture of it takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.manifest import Manifest

_BINS = 48


def calibration_histogram(manifest: Manifest) -> dict[str, Any] | None:
    """How many calibration images have which gate score.

    Where not every order statistic is stored, the images between two of them count with the upper one.

    Returns:
        `edges` (B + 1), ascending; `counts` (B), of all calibration images; `classes`, such counts for each label with
        a threshold of its own, of the images predicted as it. None where there is no gate.
    """
    gate, calibration = manifest.gate, manifest.calibration
    if gate is None or calibration is None:
        return None
    quantiles = calibration.quantiles[gate.score]
    edges = np.histogram_bin_edges(quantiles, _BINS)
    own = {label: calibration.classes[label] for label in gate.classes}
    return {
        "edges": edges.tolist(),
        "counts": _counts(calibration.ranks, quantiles, edges),
        "classes": {label: _counts(of.ranks, of.quantiles, edges) for label, of in own.items()},
    }


def _counts(ranks: Sequence[int], quantiles: Sequence[float], edges: npt.NDArray[np.float64]) -> list[int]:
    images = np.diff(ranks, prepend=0)
    counts: list[int] = np.histogram(quantiles, edges, weights=images)[0].tolist()
    return counts
