"""The false discovery proportion of `oodgate score --fdr` where the truth is known: calibration images and source drawn anew.

python -m benchmarks.score.fdr
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from export import conformal
from export.report.table import layout
from runtime.rule import p_value
from serving.batch.discovery import discover

DRAWS = 500
INLIERS, OUTLIERS = 1_800, 200
Q = (0.05, 0.1, 0.2)

Floats = npt.NDArray[np.float64]


def p_values(calibration: Floats, scores: Floats) -> Floats:
    """By the runtime's rule, from the order statistics that a manifest keeps."""
    ranks = conformal.stored_ranks(len(calibration))
    quantiles = np.sort(calibration)[ranks - 1].tolist()
    return np.array([p_value(score, ranks.tolist(), quantiles) for score in scores.tolist()])


def proportions(
    n: int, shift: float, decimals: int | None, rng: np.random.Generator
) -> Iterator[list[tuple[float, float]]]:
    """For each draw and each of :data:`Q`: the share of false ones among those found, and of outliers that are found."""
    for _ in range(DRAWS):
        drawn = (rng.normal(size=n), np.append(rng.normal(size=INLIERS), rng.normal(-shift, 1, OUTLIERS)))
        calibration, scores = (each if decimals is None else each.round(decimals) for each in drawn)
        p = p_values(calibration, scores)
        counts = Counter(p.tolist())
        found = [p <= (discover(counts, q, 1 / (n + 1)).threshold or 0) for q in Q]
        yield [(one[:INLIERS].sum() / max(1, one.sum()), one[INLIERS:].mean()) for one in found]


def table() -> Iterator[str]:
    """Means over the draws."""
    rng = np.random.default_rng(0)
    lines = [["calibration images", "outliers' scores", *(f"Q = {q:g}: false, % (power, %)" for q in Q)]]
    for n, shift, decimals in ((2_500, 4, None), (2_500, 3, None), (500, 4, None), (2_500, 4, 1), (10_000, 4, None)):
        found = np.array(list(proportions(n, shift, decimals, rng)))  # (draws, Q, 2)
        means, errors = found.mean(axis=0), found[:, :, 0].std(axis=0) / np.sqrt(DRAWS)
        text = [
            f"{100 * m:.1f} ± {100 * e:.1f} ({100 * power:.0f})" for (m, power), e in zip(means, errors, strict=True)
        ]
        more = ", all rounded: ties" if decimals else ", 4,096 ranks kept" if n > conformal.MAX_STORED else ""
        lines.append([f"{n:,}", f"{shift} sd lower{more}", *text])
    yield (
        f"{DRAWS} draws of calibration scores, and of {INLIERS:,} scores like them beside {OUTLIERS} outliers', all normal: "
        "the mean share of false ones among the outliers found, and its standard error: the bound is Q, and without ties "
        f"{INLIERS / (INLIERS + OUTLIERS):g} Q is expected. In brackets the share of the outliers that are found.\n"
    )
    yield layout(lines, markdown=True)


if __name__ == "__main__":
    print("\n".join(table()))
