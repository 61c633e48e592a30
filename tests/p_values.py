"""The runtime's conformal p-value, of many scores."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from runtime.rule import p_value


def p_values(
    scores: npt.NDArray[np.floating], ranks: npt.NDArray[np.int64], quantiles: npt.NDArray[np.floating]
) -> npt.NDArray[np.float64]:
    """Of scores (N,), by calibration scores at ascending ranks (R,)."""
    statistics = ranks.tolist(), quantiles.tolist()
    return np.array([p_value(score, *statistics) for score in scores.tolist()])
