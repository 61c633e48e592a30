"""The runtime's conformal p-value (:func:`runtime.rule.p_value`) of many scores at once, as simulations need it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def p_values(
    scores: npt.NDArray[np.floating], ranks: npt.NDArray[np.int64], quantiles: npt.NDArray[np.floating]
) -> npt.NDArray[np.float64]:
    """Of scores (N,), by calibration scores at ascending ranks (R,), the last of which is n."""
    n = int(ranks[-1])
    at = np.searchsorted(quantiles, scores, side="right")
    return np.where(np.isfinite(scores), np.append(ranks, n + 1)[at], 1) / (n + 1)
