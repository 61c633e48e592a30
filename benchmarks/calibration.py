"""Does the promise hold on real images? ``python -m benchmarks.calibration BUNDLE SOURCE`` prints a table in markdown.

SOURCE is halved; gates are calibrated on one half, for every score, merged ones and by predicted class, and their
rejection rate is measured on the other. A measured rate varies with both halves: it is a beta-binomial share, whose
central 95 % interval is printed beside its mean, k / (n + 1).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.stats import betabinom

from export import conformal
from export.calibrate.calibration import calibrate
from export.detectors.combined.merged import fit, merge
from export.images.inference import collect
from runtime import Bundle
from runtime.command import run
from runtime.engines.interface import Outputs
from runtime.gate import load_engine
from runtime.manifest import Manifest, MergeMethod
from runtime.rule import Rule
from train.data import load

Scores = npt.NDArray[np.float32]
Classes = npt.NDArray[np.int64]

COLUMNS = (
    "score",
    "alpha",
    "n",
    "rejected, %",
    "expected, %",
    "95 % interval",
    "worst class, %",
    "by class: rejected, %",
    "by class: worst class, %",
)
MERGED: tuple[tuple[str, str, MergeMethod], ...] = (("msp", "nan", "min"), ("msp", "nan", "harmonic"))


@dataclass(frozen=True)
class Values:
    """A score's values and the predicted classes, for the images that calibrate it and for new ones."""

    name: str
    known: Scores
    known_classes: Classes
    new: Scores
    new_classes: Classes


def gates(manifest: Manifest, known: Outputs, new: Outputs) -> Iterator[Values]:
    """Every score of the bundle, and merged ones."""
    known_classes, new_classes = known.logits.argmax(axis=1), new.logits.argmax(axis=1)
    for column, name in enumerate(manifest.scores):
        yield Values(name, known.scores[:, column], known_classes, new.scores[:, column], new_classes)
    held = np.random.default_rng(0).permutation(len(known.scores)) < len(known.scores) // 4
    for *parts, method in MERGED:
        columns = [manifest.scores.index(part) for part in parts]
        merged = fit(known.scores[held][:, columns], parts, method)
        own, others = (
            merge(dict(zip(parts, scores[:, columns].T, strict=True)), merged).astype(np.float32)
            for scores in (known.scores[~held], new.scores)
        )
        yield Values(f"{'+'.join(parts)}, {method}", own, known_classes[~held], others, new_classes)


def row(values: Values, alpha: float, manifest: Manifest) -> list[str]:
    """What a gate for all classes and one by predicted class reject of the new images."""
    rejected, worst = [], []
    for classes in (None, values.known_classes):
        gate = calibrate(manifest, values.known[:, None], "score", alpha, classes=classes).gate
        assert gate is not None
        predicted = np.eye(len(manifest.labels))[values.new_classes]
        refused = ~Rule(manifest.labels, manifest.scores, gate).accepts(predicted, values.new[:, None])
        rejected.append(refused.mean())
        worst.append(max(refused[values.new_classes == index].mean() for index in np.unique(values.new_classes)))
    n, m = len(values.known), len(values.new)
    k = conformal.rank(n, alpha)
    low, high = np.array(betabinom.interval(0.95, m, k, n + 1 - k)) / m
    shares = [rejected[0], k / (n + 1), low, high, worst[0], rejected[1], worst[1]]
    rate, expected, low, high, *rest = (f"{100 * share:.2f}" for share in shares)
    return [values.name, f"{alpha:g}", f"{n}", rate, expected, f"{low} to {high}", *rest]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibration", description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("source", metavar="SOURCE", help="in-distribution images that were not trained on")
    args = parser.parse_args()
    bundle = Bundle.load(args.bundle)
    engine = load_engine(bundle, threads=1)
    known, new = (
        collect(engine, load(f"{args.source}@{half}/2", bundle.manifest.input).images, title=f"half {half}")
        for half in (1, 2)
    )
    manifest = replace(bundle.manifest, scores=("score",), merged={}, gate=None)
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for values in gates(bundle.manifest, known, new):
        for alpha in conformal.ALPHAS:
            print(f"| {' | '.join(row(values, alpha, manifest))} |")
    return 0


if __name__ == "__main__":
    run(main)
