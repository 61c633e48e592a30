"""Are the guarantees kept, and are they no looser than they have to be?

    python -m benchmarks.guarantees --bundle bundles/cifar10 --source cifar10-val.tar --write

Simulated, where the truth is known: 2,000 calibrations of each kind, and 500 streams of 10,000 outcomes, looked at after
every one. With a bundle and a source of labelled images beside it: calibrated on each half of the images, measured on the
other.
"""

from __future__ import annotations

import argparse
import io
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import stats

from benchmarks.paths import MEASURED
from export import conformal
from export.calibrate import label_sets
from export.calibrate.__main__ import main as calibrate
from export.calibrate.selection import Judged, search
from export.metrics.intervals import share
from export.report.table import layout
from runtime import Gate
from serving.outcomes.bound import _LOGS, _STAKES, upper
from train.data import load, short_name

CALIBRATIONS = 2000
STREAMS, LENGTH = 500, 10_000
CONFIDENCE = 0.95

Floats = npt.NDArray[np.float64]


def pac(rng: np.random.Generator) -> Iterator[list[str]]:
    """The share of calibration sets whose threshold rejects more than alpha; exact for each by the law of the scores."""
    yield ["n", "alpha", "rank", "broken, %", "expected, %", "of the next rank, %", "marginal: rank", "broken, %"]
    for n, alpha in ((59, 0.05), (150, 0.05), (500, 0.05), (2500, 0.05), (2500, 0.01)):
        scores = np.sort(rng.normal(size=(CALIBRATIONS, n)), axis=1)
        cells = [f"{n}", f"{alpha:g}"]
        for confidence in (CONFIDENCE, None):
            if confidence is None and n < conformal.smallest(alpha):
                cells += ["-", "-"]
                continue
            k = conformal.rank(n, alpha, confidence)
            broken = (stats.norm.cdf(scores[:, k - 1]) > alpha).mean()
            cells += [f"{k}", f"{100 * broken:.2f}"]
            if confidence is not None:
                cells += [f"{100 * stats.beta.sf(alpha, rank, n + 1 - rank):.2f}" for rank in (k, k + 1)]
        yield cells


@dataclass(frozen=True)
class Population:
    """Scores u, uniform in (0, 1); an image is wrong with probability worst (1 - u)^power; 95 of 100 pass the gate."""

    worst: float
    power: float

    def draw(self, n: int, rng: np.random.Generator) -> Judged:
        """Labelled images."""
        u = rng.random(n)
        return Judged(u.astype(np.float32), rng.random(n) < 0.95, rng.random(n) >= self.worst * (1 - u) ** self.power)

    def error(self, threshold: float) -> float:
        """The error of images that reach a threshold, the mean of the probability above it."""
        return self.worst * (1 - threshold) ** self.power / (self.power + 1)


RATE = 0.02
POPULATIONS = {
    "easy: 1 % wrong in all": Population(0.03, 2),
    "hard: 30 % wrong in all, 25.8 % of images could be accepted": Population(0.9, 2),
    "near the bound: 2.0002 % wrong at every threshold": Population(RATE * 1.0001, 0),
}


def max_error(rng: np.random.Generator, n: int = 3000) -> Iterator[list[str]]:
    """The share of calibrations whose accepted images are wrong more often than the rate promised."""
    yield ["population", "broken, %", "bounds found, %", "images accepted, mean, %"]
    for name, population in POPULATIONS.items():
        found = [
            search(population.draw(n, rng), population.draw(n, rng), RATE, CONFIDENCE) for _ in range(CALIBRATIONS)
        ]
        accepted = [0.0 if one is None else 1 - one.threshold for one in found]
        broken = sum(one is not None and population.error(one.threshold) > RATE for one in found)
        shares = (broken / CALIBRATIONS, np.mean([one is not None for one in found]), np.mean(accepted))
        yield [name, *(f"{100 * value:.2f}" for value in shares)]


def sets(rng: np.random.Generator) -> Iterator[list[str]]:
    """The coverage that calibration sets realise, which is Beta(n + 1 - k, k)."""
    yield ["n", "coverage", "realised, mean, %", "in the central 95 % of its Beta law, %", "p of Kolmogorov-Smirnov"]
    large = rng.dirichlet(np.full(5, 0.4), 1_000_000)
    labels = np.minimum((rng.random((len(large), 1)) > large.cumsum(axis=1)).sum(axis=1), 4)
    true = np.sort(large[np.arange(len(large)), labels])
    for n, coverage in ((99, 0.9), (999, 0.9), (999, 0.95)):
        rows = rng.integers(0, len(large), (CALIBRATIONS, n))
        least = [label_sets.fit(large[row], labels[row], coverage).threshold for row in rows]
        covered = 1 - np.searchsorted(true, least) / len(true)
        k = round((1 - coverage) * (n + 1))
        law = stats.beta(n + 1 - k, k)
        low, high = law.interval(0.95)
        inside = ((low <= covered) & (covered <= high)).mean()
        p = stats.kstest(covered, law.cdf).pvalue
        yield [f"{n}", f"{coverage:g}", f"{100 * covered.mean():.2f}", f"{100 * inside:.2f}", f"{p:.2f}"]


RATES = {
    "0.5 % wrong": np.full(LENGTH, 0.005),
    "2 % wrong": np.full(LENGTH, 0.02),
    "20 % wrong": np.full(LENGTH, 0.2),
    "none wrong, then 5 %": np.repeat([0.0, 0.05], LENGTH // 2),
    "5 % wrong, then none": np.repeat([0.05, 0.0], LENGTH // 2),
}


def outcomes(rng: np.random.Generator) -> Iterator[list[str]]:
    """The share of streams in which the bound is ever below the mean error so far, looked at after every outcome."""
    yield ["error", "ever broken, %", *(f"bound after {n:,}, mean, %" for n in (100, 1000, LENGTH))]
    answers = np.arange(1, LENGTH + 1)
    for name, rates in RATES.items():
        errors = (rng.random((STREAMS, LENGTH)) < rates).cumsum(axis=1)
        mean = rates.cumsum() / answers
        money = np.zeros((STREAMS, LENGTH))
        for log, stake in zip(_LOGS, _STAKES, strict=True):
            money += np.exp(np.minimum(-log * errors - answers * np.log1p(-stake * mean), 50))
        broken = (money / len(_LOGS) >= 1 / (1 - CONFIDENCE)).any(axis=1).mean()
        bounds = [np.mean([upper(int(row[n - 1]), n) for row in errors[:50]]) for n in (100, 1000, LENGTH)]
        yield [name, f"{100 * broken:.2f}", *(f"{100 * bound:.2f}" for bound in bounds)]


def held(bundle: Path, source: str) -> Iterator[list[str]]:
    """A bundle calibrated on one half of labelled images, with every guarantee, and measured on the other half."""
    yield [
        "calibrated on",
        "alpha",
        "rejected as OOD, %",
        "accepted, %",
        "wrong among them, %",
        "set of 95 %: covers, %",
    ]
    for half, other in ((1, 2), (2, 1)):
        with tempfile.TemporaryDirectory() as folder:
            copy = shutil.copytree(bundle, Path(folder) / bundle.name)
            promises = ["--guarantee", "pac", "--max-error", f"{RATE}", "--prediction-sets", "0.95"]
            with redirect_stdout(io.StringIO()):
                calibrate([str(copy), f"{source}@{half}/2", *promises])
            gate = Gate.load(copy, engine="onnxruntime-cpu")
            images = load(f"{source}@{other}/2", gate.manifest.input).with_classes(gate.manifest.labels, source)
            for alpha in gate.alphas:
                decisions = gate.decide(images.images[:], alpha=alpha)
                pairs = list(zip(decisions, images.labels.tolist(), strict=True))
                wrong = [one.class_index != label for one, label in pairs if one.decision == "accept"]
                covered = [label in dict(one.label_set(0.95)) for one, label in pairs if not one.is_ood]
                rejected = len(pairs) - len(covered)
                figures = (
                    (rejected, len(pairs)),
                    (len(wrong), len(pairs)),
                    (sum(wrong), len(wrong)),
                    (sum(covered), len(covered)),
                )
                yield [f"{short_name(source)}@{half}/2", f"{alpha:g}", *(_percent(*figure) for figure in figures)]


def _percent(hits: int, total: int) -> str:
    low, high = share(hits, total)
    return f"{100 * hits / total:.2f} ({100 * low:.2f} to {100 * high:.2f})"


def page(bundle: Path | None, source: str | None) -> str:
    """The page, in markdown."""
    rng = np.random.default_rng(20260101)
    error = 100 * 1.96 * (0.05 * 0.95 / CALIBRATIONS) ** 0.5
    parts = [
        "# Are the guarantees kept?",
        "By `python -m benchmarks.guarantees`. What may be broken in 5 of 100 calibrations is measured on "
        f"{CALIBRATIONS:,}, so to within {error:.1f} percentage points.",
        "## The rejection rate of this very gate (`--guarantee pac`), 95 % confidence",
        "The rank is the largest that keeps the promise: the next one would break it in more than 5 of 100 sets.",
        layout(list(pac(rng)), markdown=True),
        "## The error of accepted images (`--max-error 0.02`), 95 % confidence, 3,000 images to tune and as many to test",
        layout(list(max_error(rng)), markdown=True),
        "## Label sets (`--prediction-sets`)",
        layout(list(sets(rng)), markdown=True),
        f"## The live error's bound (`/outcomes`), 95 % confidence, {STREAMS} streams of {LENGTH:,} outcomes",
        layout(list(outcomes(rng)), markdown=True),
    ]
    if bundle and source:
        parts += [
            f"## Held images: {bundle.name} on the halves of {short_name(source)}",
            "Calibrated with `--guarantee pac --max-error 0.02 --prediction-sets 0.95`; shares of the other half, with their "
            "exact 95 % intervals. Promised: at most alpha rejected as OOD, at most 2 % wrong among the accepted, at least "
            "95 % covered of those that are not rejected as OOD.",
            layout(list(held(bundle, source)), markdown=True),
        ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guarantees", description=__doc__.partition("\n")[0])
    parser.add_argument("--bundle", type=Path, help="to calibrate on held images too, a copy of it")
    parser.add_argument("--source", help="labelled images that the bundle was not trained on")
    parser.add_argument("--write", action="store_true", help="write docs/measured/guarantees.md, and not only print it")
    args = parser.parse_args()
    text = page(args.bundle, args.source)
    print(text)
    if args.write:
        (MEASURED / "guarantees.md").write_text(text)


if __name__ == "__main__":
    main()
