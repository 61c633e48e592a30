"""Does the drift alarm keep its promise for gates of every kind, and for scores that are tied?

    python -m benchmarks.drift_gates --write

Simulates small calibration sets and streams of images that are exchangeable with them. The last two rows show the alarm
p-values among the calibration images predicted as the same class, which the service does not.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from benchmarks.drift import BLOCK, DOCS, put
from export import conformal
from export.detectors.combined import merged
from serving.drift.detector import Detector
from serving.drift.reference import Reference

CALIBRATION = (50, 100, 300, 1000)
CLASSES = 10
IMAGES, CHANCE = 5000, 0.2  # of a stream, and the share of streams that may ring for change
BEGIN = "<!-- python -m benchmarks.drift_gates -->\n"


class Scores(NamedTuple):
    """Scores of in-distribution images (N,), and the classes that they are predicted as (N,)."""

    values: npt.NDArray[np.float64]
    classes: npt.NDArray[np.int64]


Draw = Callable[[np.random.Generator, int], Scores]


def continuous(rng: np.random.Generator, n: int) -> Scores:
    classes = rng.integers(0, CLASSES, n)
    return Scores(rng.normal(classes / 4), classes)


def tied(rng: np.random.Generator, n: int) -> Scores:
    drawn = continuous(rng, n)
    return drawn._replace(values=np.round(drawn.values * 2) / 2)


def saturated(rng: np.random.Generator, n: int) -> Scores:
    drawn = continuous(rng, n)
    return drawn._replace(values=np.minimum(drawn.values, 1.6))


def constant(rng: np.random.Generator, n: int) -> Scores:
    return continuous(rng, n)._replace(values=np.ones(n))


def minimum(rng: np.random.Generator, n: int) -> Scores:
    """Two scores merged by curves that 200 other images gave."""
    reference = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    curves = merged.fit(reference, ("a", "b"), "min")
    drawn = continuous(rng, n)
    return drawn._replace(values=merged.merge({"a": drawn.values, "b": drawn.values + rng.normal(size=n)}, curves))


def among_all(calibration: Scores, traffic: Scores) -> npt.NDArray[np.float64]:
    """p-values as the service takes them."""
    return p_values_among(calibration.values, traffic.values)


def within_classes(calibration: Scores, traffic: Scores) -> npt.NDArray[np.float64]:
    """p-values among the calibration images of the same class, where four or more give it a threshold at alpha = 0.2."""
    p = among_all(calibration, traffic)
    for label in range(CLASSES):
        own = calibration.values[calibration.classes == label]
        if len(own) >= conformal.smallest(0.2):
            mine = traffic.classes == label
            p[mine] = p_values_among(own, traffic.values[mine])
    return p


def p_values_among(calibration: npt.NDArray[np.float64], scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """As runtime.rule.p_value, many at once, where every order statistic is stored."""
    below = np.searchsorted(np.sort(calibration), scores, side="right")
    return np.asarray((1 + below) / (len(calibration) + 1))


def rings(draw: Draw, p_values: Callable[[Scores, Scores], npt.NDArray[np.float64]], n: int, seed: int) -> bool:
    """Whether a stream of in-distribution images raises the alarm."""
    rng = np.random.default_rng([seed, n])
    calibration = draw(rng, n)
    reference = Reference.from_calibration(range(1, n + 1), np.sort(calibration.values).tolist())
    bins = np.searchsorted(reference.edges, p_values(calibration, draw(rng, IMAGES)))
    detector = Detector(reference, IMAGES / CHANCE)
    evidence = detector.start()
    for block in bins.reshape(-1, BLOCK):
        evidence = detector.after(evidence, np.bincount(block, minlength=len(reference.edges)))
        if evidence.alarm:
            return True
    return False


def table(streams: int) -> str:
    """The table of gates as Markdown."""
    kinds = {
        "one for all, or by class": (continuous, among_all),
        "the same, a dozen different values": (tied, among_all),
        "the same, the upper third saturated": (saturated, among_all),
        "the same, all equal": (constant, among_all),
        "the minimum of two p-values": (minimum, among_all),
        "*by class, p-values within the class*": (continuous, within_classes),
        "*the same, a dozen different values*": (tied, within_classes),
    }
    lines = [
        f"| scores, thresholds | {' | '.join(f'n = {n:,}' for n in CALIBRATION)} |",
        "|---|" + "---|" * len(CALIBRATION),
    ]
    for name, (draw, p_values) in tqdm(kinds.items(), desc="gates", disable=None):
        shares = [np.mean([rings(draw, p_values, n, seed) for seed in range(streams)]) for n in CALIBRATION]
        lines.append(f"| {name} | {' | '.join(f'{share:.0%}' for share in shares)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=60, help="simulated for each cell; default: %(default)s")
    parser.add_argument("--write", action="store_true", help="into docs/drift.md; default: print")
    args = parser.parse_args()
    text = table(args.streams)
    if args.write:
        put(text, DOCS / "drift.md", BEGIN)
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
