"""How often does the drift alarm ring for nothing, and how soon when it should?

    python -m benchmarks.drift --write

Simulates calibration sets and streams of p-values, through the runtime's own p-values and the service's own detector, and
compares the service's alarm with three others that promise the same rate of false alarms. In-distribution scores are
exchangeable with the calibration scores; p-values of other images have the density 0.3 p^-0.7, of which a gate at
alpha = 0.05 rejects 41 %: the images of a near set. Gates and scores of other kinds:
:mod:`benchmarks.drift_gates`.
"""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from benchmarks.paths import DOCS
from export import conformal
from serving.drift.detector import Detector
from serving.drift.reference import Reference
from serving.drift.uniformity import kolmogorov_smirnov, kolmogorov_tail

Counts = npt.NDArray[np.int64]

CALIBRATION = (500, 2500, 10_000)
SHARES = (0.05, 0.1, 0.5)
OOD_EXPONENT = 0.3
PROMISE = 1e7  # requests to a false alarm, the service's default
BLOCK = 20  # images between two looks: what comes in a second, say
LONG = 100_000  # in-distribution images of a stream
BEFORE = 10_000  # in-distribution images before other images are mixed in
PATIENCE = 20_000  # images after which an alarm that did not ring is given up
WINDOW = 2000  # images of the windowed tests, looked at as often as the others
BEGIN, END = "<!-- python -m benchmarks.drift -->\n", "<!-- end -->\n"


class Stream:
    """One calibration set and the traffic after it, as blocks of bin counts."""

    def __init__(self, rng: np.random.Generator, n: int) -> None:
        self.rng = rng
        self.ranks = conformal.stored_ranks(n)
        self.quantiles = np.sort(rng.random(n))[self.ranks - 1]
        self.reference = Reference.from_calibration(self.ranks.tolist(), self.quantiles.tolist())

    def block(self, share: float = 0.0) -> Counts:
        """The next images, of which a share is out of distribution."""
        scores = self.rng.random(BLOCK)
        others = self.rng.random(BLOCK) < share
        scores[others] = self.rng.beta(OOD_EXPONENT, 1, int(others.sum()))
        at = np.searchsorted(self.quantiles, scores, side="right")
        p = np.append(self.ranks, self.ranks[-1] + 1)[at] / (
            self.ranks[-1] + 1
        )  # as runtime.rule.p_value, many at once
        bins = np.searchsorted(self.reference.edges, p)
        return np.bincount(bins, minlength=len(self.reference.edges))


class Alarm(Protocol):
    """Takes blocks, says whether it rings."""

    def __call__(self, counts: Counts) -> bool: ...


def service(reference: Reference) -> Alarm:
    """The service's: against the calibration set and what came after it."""
    detector = Detector(reference, PROMISE)
    evidence = detector.start()

    def alarm(counts: Counts) -> bool:
        nonlocal evidence
        evidence = detector.after(evidence, counts)
        return evidence.alarm

    return alarm


def uniform(reference: Reference) -> Alarm:
    """The same bets against exactly uniform p-values: a calibration set without sampling error."""
    return service(Reference(reference.edges, reference.slots * 1e9))


def windowed(tail: Callable[[Reference, Counts], float]) -> Callable[[Reference], Alarm]:
    """A test of the latest images at every block, at a level that the union bound turns into the promise."""

    def make(reference: Reference) -> Alarm:
        blocks = deque([np.zeros(len(reference.edges), dtype=np.int64)] * (WINDOW // BLOCK))
        window = blocks[0].copy()

        def alarm(counts: Counts) -> bool:
            nonlocal window
            blocks.append(counts)
            window += counts - blocks.popleft()
            return tail(reference, window) < BLOCK / PROMISE

        return alarm

    return make


def two_sample(reference: Reference, counts: Counts) -> float:
    return kolmogorov_smirnov(reference, counts).p_value


def one_sample(reference: Reference, counts: Counts) -> float:
    return kolmogorov_tail(kolmogorov_smirnov(reference, counts).statistic, float(counts.sum()))


ALARMS: dict[str, Callable[[Reference], Alarm]] = {
    "the service's: bets that know the calibration error": service,
    "the same bets, calibration taken for exact": uniform,
    f"Kolmogorov-Smirnov on {WINDOW:,} images, two-sample": windowed(two_sample),
    f"Kolmogorov-Smirnov on {WINDOW:,} images, one-sample": windowed(one_sample),
}


def false_alarms(make: Callable[[Reference], Alarm], n: int, streams: int) -> tuple[float, float]:
    """Alarms in 100,000 in-distribution images on average, and the share of streams with any."""
    rung = []
    for seed in range(streams):
        stream = Stream(np.random.default_rng([seed, n]), n)
        alarm, before, count = make(stream.reference), False, 0
        for _ in range(LONG // BLOCK):
            now = alarm(stream.block())
            count += now and not before
            before = now
        rung.append(count)
    return float(np.mean(rung)), float(np.mean(np.array(rung) > 0))


def delays(
    make: Callable[[Reference], Alarm], n: int, share: float, before: int, streams: int
) -> npt.NDArray[np.float64]:
    """Images from the first one that may be out of distribution to the alarm, infinite where it did not ring."""
    found = []
    for seed in range(streams):
        stream = Stream(np.random.default_rng([seed, n, before]), n)
        alarm = make(stream.reference)
        for _ in range(before // BLOCK):
            alarm(stream.block())
        blocks = range(1, PATIENCE // BLOCK + 1)
        found.append(next((BLOCK * i for i in blocks if alarm(stream.block(share))), np.inf))
    return np.array(found)


def quantiles(found: npt.NDArray[np.float64]) -> str:
    """Median and 95th percentile."""
    return " / ".join(
        f"{value:,.0f}" if np.isfinite(value) else "-" for value in np.quantile(found, [0.5, 0.95], method="higher")
    )


def tables(streams: int) -> str:
    """The simulation as Markdown."""
    lines = [
        f"False alarms in {LONG:,} in-distribution images; in brackets the share of {streams} streams with any.",
        "",
        "| alarm | " + " | ".join(f"n = {n:,}" for n in CALIBRATION) + " |",
        "|---|" + "---|" * len(CALIBRATION),
    ]
    for name, make in tqdm(ALARMS.items(), desc="false alarms", disable=None):
        rates = [false_alarms(make, n, streams) for n in CALIBRATION]
        lines.append(f"| {name} | " + " | ".join(f"{mean:.2f} ({share:.0%})" for mean, share in rates) + " |")
    lines += [
        "",
        "Images until the alarm, median / 95 % of streams; - where it did not ring within "
        f"{PATIENCE:,}. Other images are mixed in after {BEFORE:,} in-distribution ones, or from the first image on.",
        "",
        "| alarm | from image | share | " + " | ".join(f"n = {n:,}" for n in CALIBRATION) + " |",
        "|---|---|---|" + "---|" * len(CALIBRATION),
    ]
    names = list(ALARMS)
    for name, before in tqdm([(names[0], BEFORE), (names[0], 0), (names[2], BEFORE)], desc="delays", disable=None):
        for share in SHARES:
            cells = [quantiles(delays(ALARMS[name], n, share, before, streams)) for n in CALIBRATION]
            lines.append(f"| {name} | {before + 1:,} | {share:.0%} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def in_short(text: str) -> str:
    """Of :func:`tables`, what an operator asks first: the service's alarm, and changes after normal traffic."""
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in text.splitlines()
        if line.startswith("| the service's:")
    ]
    (_, *rates), *found = rows
    lines = [f"| | {' | '.join(f'n = {n:,}' for n in CALIBRATION)} |", "|---|" + "---|" * len(CALIBRATION)]
    lines.append(
        f"| false alarms in {LONG:,} in-distribution images (share of streams with any) | {' | '.join(rates)} |"
    )
    for _, start, share, *cells in found:
        if start == f"{BEFORE + 1:,}":
            lines.append(f"| images until {share} of others are noticed: median / 95 % | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def put(text: str, page: Path, begin: str = BEGIN) -> None:
    """Replace the marked part of a Markdown file."""
    whole = page.read_text(encoding="utf-8")
    before, _, rest = whole.partition(begin)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"error: {page} has no lines {begin.strip()} and {END.strip()}")
    page.write_text(before + begin + text + END + after, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=60, help="simulated for each cell; default: %(default)s")
    parser.add_argument(
        "--write", action="store_true", help="into docs/drift.md and docs/operations.md; default: print"
    )
    args = parser.parse_args()
    text = tables(args.streams)
    if args.write:
        put(text, DOCS / "drift.md")
        put(in_short(text), DOCS / "operations.md")
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
