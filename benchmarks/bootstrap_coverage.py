"""Do the intervals cover? Simulated scores whose AUROC, AUPR and FPR95 are known, and how often each interval holds them.

    python -m benchmarks.bootstrap_coverage --out docs/measured/bootstrap_coverage.md

ID scores are normal with mean d and deviation 1, OOD scores normal with mean 0 and deviation s, or both are rounded to
integers, so that most images tie. Compared are the stratified bootstrap with percentiles, the same corrected for bias and
acceleration (BCa; for FPR95, which has no derivative, bias alone), and the closed forms of `export.metrics.intervals`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.stats import norm
from tqdm import tqdm

from export.metrics.detection import auroc_influence, average_precision_influence, detection, detection_intervals
from export.metrics.intervals import CONFIDENCE, Interval

Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

METRICS = ("auroc", "aupr_in", "fpr95_id_positive")
TITLES = {"auroc": "AUROC", "aupr_in": "AUPR-in", "fpr95_id_positive": "FPR95"}
METHODS = ("percentile", "BCa", "closed form")


@dataclass(frozen=True)
class Population:
    """ID scores N(d, 1), OOD scores N(0, s), rounded to integers or not."""

    d: float
    s: float
    rounded: bool = False

    def draw(self, n: int, m: int, rng: np.random.Generator) -> tuple[Array, Array]:
        known, unknown = rng.normal(self.d, 1, n), rng.normal(0, self.s, m)
        return (known.round(), unknown.round()) if self.rounded else (known, unknown)

    def truth(self, n: int, m: int) -> dict[str, float]:
        """AUROC, AUPR-in at the proportion n to m, and FPR95, on a grid of cells (integers, or of width 0.0001)."""
        width = 1.0 if self.rounded else 1e-4
        values = np.arange(-40, 40 + width / 2, width)
        edges = np.append(values - width / 2, values[-1] + width / 2)
        known, unknown = np.diff(norm.cdf(edges, self.d)), np.diff(norm.cdf(edges, 0, self.s))
        kept, accepted = np.cumsum(known[::-1])[::-1], np.cumsum(unknown[::-1])[::-1]
        precision = n * kept / np.maximum(n * kept + m * accepted, np.finfo(float).tiny)
        return {
            "auroc": float(known @ (1 - accepted + unknown / 2)),
            "aupr_in": float(known @ precision),
            "fpr95_id_positive": float(accepted[np.flatnonzero(kept >= 0.95)[-1]]),
        }


POPULATIONS = (
    Population(1, 1),
    Population(2, 1),
    Population(2, 1, rounded=True),
    Population(3, 1),
    Population(4, 1),
    Population(5, 1),
    Population(1.5, 0.5),
    Population(3, 3),
)


def resample(groups: Counts, size: int, repeats: int, rng: np.random.Generator) -> Counts:
    """How often each of `size` groups occurs among len(groups) draws from them with replacement, (repeats, size)."""
    drawn = groups[rng.integers(0, len(groups), (repeats, len(groups)))]
    return np.bincount((drawn + size * np.arange(repeats)[:, None]).ravel(), minlength=repeats * size).reshape(
        repeats, size
    )


def from_counts(known: Counts, unknown: Counts) -> dict[str, Array]:
    """The metrics of weighted samples: rows of counts (R, G) for ascending distinct scores."""
    n, m = known.sum(axis=1, keepdims=True), unknown.sum(axis=1, keepdims=True)
    kept, accepted = n - np.cumsum(known, axis=1) + known, m - np.cumsum(unknown, axis=1) + unknown
    threshold = kept.shape[1] - 1 - (100 * kept >= 95 * n)[:, ::-1].argmax(axis=1)
    return {
        "auroc": (known * (m - accepted + unknown / 2)).sum(axis=1) / (n * m)[:, 0],
        "aupr_in": (known * kept / np.maximum(kept + accepted, 1)).sum(axis=1) / n[:, 0],
        "fpr95_id_positive": accepted[np.arange(len(kept)), threshold] / m[:, 0],
    }


def bootstrap(known: Array, unknown: Array, repeats: int, rng: np.random.Generator) -> dict[str, Array]:
    """The metrics of `repeats` resamples, stratified: ID and OOD scores are drawn separately."""
    values, groups = np.unique(np.concatenate([known, unknown]), return_inverse=True)
    parts = (resample(part, len(values), repeats, rng) for part in np.split(groups, [len(known)]))
    return from_counts(*parts)


def percentile(draws: Array, value: float, acceleration: float) -> Interval:
    del value, acceleration
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def bca(draws: Array, value: float, acceleration: float) -> Interval:
    """Efron 1987; the bias from the share of resamples below the value, ties counted half."""
    below = np.mean(draws < value) + np.mean(draws == value) / 2
    bias = norm.ppf(np.clip(below, 1 / len(draws), 1 - 1 / len(draws)))
    shifted = bias + norm.ppf([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    low, high = np.quantile(draws, norm.cdf(bias + shifted / (1 - acceleration * shifted)))
    return float(low), float(high)


BOOTSTRAPS: dict[str, Callable[[Array, float, float], Interval]] = {"percentile": percentile, "BCa": bca}


def acceleration(influences: tuple[Array, Array]) -> float:
    """Skewness of the influence of both samples (Efron & Tibshirani 1993, several samples)."""
    weighted = [influence / len(influence) for influence in influences]
    square = sum(float((part**2).sum()) for part in weighted)
    return sum(float((part**3).sum()) for part in weighted) / (6 * square**1.5) if square else 0.0


def simulate(
    population: Population, n: int, m: int, repetitions: int, repeats: int, rng: np.random.Generator
) -> dict[tuple[str, str], tuple[float, float]]:
    """For each metric and method, how often the interval holds the truth, and its mean width."""
    truth = population.truth(n, m)
    holds: dict[tuple[str, str], list[bool]] = {(x, y): [] for x in METRICS for y in METHODS}
    widths: dict[tuple[str, str], list[float]] = {(x, y): [] for x in METRICS for y in METHODS}
    for _ in tqdm(range(repetitions), desc=str(population), disable=None, leave=False):
        known, unknown = population.draw(n, m, rng)
        figures = detection(known, unknown)
        closed = detection_intervals(known, unknown, figures)
        draws = bootstrap(known, unknown, repeats, rng) if repeats else {}
        skewness = {
            "auroc": acceleration(auroc_influence(known, unknown)),
            "aupr_in": acceleration(average_precision_influence(known, unknown)),
            "fpr95_id_positive": 0.0,
        }
        for metric in METRICS:
            intervals = {"closed form": getattr(closed, metric)}
            for method, function in BOOTSTRAPS.items() if draws else ():
                intervals[method] = function(draws[metric], getattr(figures, metric), skewness[metric])
            for method, (low, high) in intervals.items():
                holds[metric, method].append(low - 1e-9 <= truth[metric] <= high + 1e-9)
                widths[metric, method].append(high - low)
    return {key: (float(np.mean(holds[key])), float(np.mean(widths[key]))) for key in holds if holds[key]}


def page(n: int, m: int, repetitions: int, repeats: int, seed: int) -> str:
    rng = np.random.default_rng(seed)
    sections = [
        "# Do the intervals cover?",
        f"Made by `python -m benchmarks.bootstrap_coverage`: {repetitions} repetitions with n = {n} ID and m = {m} OOD "
        f"scores, {repeats} bootstrap resamples in each. Coverage of the true value by 95 % intervals, and their mean "
        f"width, in percent; a coverage of 95 has a standard error of {100 * (0.95 * 0.05 / repetitions) ** 0.5:.1f}.",
    ]
    rows: dict[str, list[str]] = {metric: [] for metric in METRICS}
    for population in POPULATIONS:
        found = simulate(population, n, m, repetitions, repeats, rng)
        truth = population.truth(n, m)
        name = f"d = {population.d:g}, s = {population.s:g}" + (", integers" if population.rounded else "")
        for metric in METRICS:
            cells = (f"{100 * held:.1f} ({100 * width:.2f})" for held, width in (found[metric, x] for x in METHODS))
            rows[metric].append(f"| {name} | {100 * truth[metric]:.2f} | {' | '.join(cells)} |")
    for metric in METRICS:
        header = f"| population | true {TITLES[metric]} | {' | '.join(METHODS)} |\n|---|---|---|---|---|"
        sections.append("\n".join([header, *rows[metric]]))
    sections.append(cost(rng, repeats))
    sections.append(NOTE)
    return "\n\n".join(sections) + "\n"


def cost(rng: np.random.Generator, repeats: int) -> str:
    """CPU time of one score against one OOD set of 2,500 and 2,000 images, the best of five."""
    known, unknown = Population(2, 1).draw(2500, 2000, rng)

    def best(run: Callable[[], object]) -> float:
        times = []
        for _ in range(5):
            start = time.process_time()
            run()
            times.append(time.process_time() - start)
        return 1e3 * min(times)

    closed = best(lambda: detection_intervals(known, unknown, detection(known, unknown)))
    drawn = best(lambda: bootstrap(known, unknown, repeats, rng))
    return (
        f"One score, 2,500 ID and 2,000 OOD images, CPU time: five figures with closed intervals {closed:.0f} ms, "
        f"{repeats} resamples of three figures {drawn:.0f} ms."
    )


NOTE = """## Why closed forms

Where scores overlap, all agree. Where they hardly do, which is where a good gate works, the bootstrap claims too much: only
a few images are out of order, resamples differ by these few alone, and a sample without any has an interval of width 0.
There the closed forms rather err on the wide side. `python -m export.evaluate` takes them throughout:

- **AUROC, AUPR, AURC, mAP**: the variance of the infinitesimal jackknife, which is what the bootstrap's tends to with the
  number of resamples (for AUROC it is DeLong's), on the logit scale, with Student's quantile whose degrees of freedom fall
  as fewer images carry the variance.
- **FPR95**: its threshold is an order statistic, so the rank is binomial and exact; the share of OOD images above it has
  Jeffreys' interval. The interval is that of the mixture.
- **Perfect separation**: all of min(n, m) independent pairs are in order, so a pair is out of order with probability p
  only if (1 - p)^min(n, m) >= 0.025, which bounds AUROC and AUPR.
- **Accuracy, acceptance, rejection**: Clopper and Pearson's exact interval.

Nothing is drawn, so figures have no seed. No interval knows of a population whose rare images look unlike all of the sample:
images must be drawn independently from where the model will work."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=500, help="ID scores (default: %(default)s)")
    parser.add_argument("--m", type=int, default=500, help="OOD scores (default: %(default)s)")
    parser.add_argument("--repetitions", type=int, default=600, help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=1000, help="bootstrap resamples (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the page here instead of printing it")
    args = parser.parse_args()
    text = page(args.n, args.m, args.repetitions, args.repeats, args.seed)
    if args.out:
        args.out.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
