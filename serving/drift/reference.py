"""What calibration says of the p-values to come: bins, and the weight of calibration images behind each."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# Upper ends of the bins: narrow at both ends, where images that are unusual, or too usual, gather.
_EDGES = np.array(
    [0.0005, 0.001, 0.002, 0.004, 0.007, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6]
    + [0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995, 1.0]
)


@dataclass(frozen=True)
class Reference:
    """The bins of one calibration set.

    n calibration scores cut the line into n + 1 slots. A new in-distribution score falls into each of them with the same
    probability, whatever the scores' distribution; given the calibration set, the slots' true probabilities are a draw
    from Dirichlet(1, ..., 1). A bin of m slots therefore has a probability of about m / (n + 1), and the bins' true
    probabilities are a draw from Dirichlet(m_1, ..., m_B). (Exact for scores without ties; a tied value shifts at most
    one slot.)

    Attributes:
        edges: (B,) ascending upper ends of the bins, in p-values; the last is 1.
        slots: (B,) m, how many slots each bin holds, all positive; their sum is n + 1.
    """

    edges: npt.NDArray[np.float64]
    slots: npt.NDArray[np.float64]

    @classmethod
    def from_calibration(cls, ranks: Sequence[int], quantiles: Sequence[float]) -> Reference:
        """The reference of a manifest's order statistics, which decide which p-values can occur.

        Args:
            ranks: (R,) ascending 1-based ranks, the last is n (``manifest.calibration.ranks``).
            quantiles: (R,) the gate score's values at these ranks, ascending.
        """
        values = np.asarray(quantiles)
        occurs = np.concatenate([[True], values[1:] > values[:-1], [True]])  # a count between two tied scores does not
        numerators = np.append(ranks, ranks[-1] + 1)[occurs]
        bins = np.searchsorted(_EDGES, numerators / (ranks[-1] + 1))
        slots = np.bincount(bins, np.diff(numerators, prepend=0), len(_EDGES)).astype(np.float64)
        return cls(_EDGES[slots > 0], slots[slots > 0])

    @property
    def n(self) -> int:
        """How many calibration images there are."""
        return round(float(self.slots.sum())) - 1

    @property
    def probabilities(self) -> npt.NDArray[np.float64]:
        """(B,) what each bin receives of in-distribution images, averaged over calibration sets."""
        return np.asarray(self.slots / self.slots.sum())

    def locator(self) -> Locator:
        """The bin of a p-value, fast."""
        return Locator(self.edges.tolist())


class Locator:
    """Finds bins without numpy, which costs more than the search.

    Args:
        edges: ascending upper ends, the last is 1.
    """

    def __init__(self, edges: list[float]) -> None:
        self._edges = edges

    def __call__(self, p_value: float) -> int:
        """The index of the bin that holds a p-value.

        Raises:
            ValueError: not in (0, 1].
        """
        if not 0 < p_value <= 1:
            raise ValueError(f"a p-value is in (0, 1], found {p_value}")
        return bisect_left(self._edges, p_value)
