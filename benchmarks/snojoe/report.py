"""docs/measured/snojoe_photographs.md, from what is in the folder of work."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import t

from benchmarks.snojoe.measuring import OOD, SCORES
from benchmarks.snojoe.networks import BACKBONES
from benchmarks.snojoe.work import TABLES
from export.report.table import layout

Row = Mapping[str, Any]
Values = npt.NDArray[np.float64]
RESAMPLES = 500
# SNoJoE, table 2: FPR95 and AUROC against ImageNet-22K and Textures, PASCAL-VOC known.
PAPER = {
    "max_logit": ("36.3 / 91.0", "12.4 / 96.2"),
    "msp": ("69.9 / 78.2", "41.8 / 89.8"),
    "odin": ("36.3 / 91.0", "12.4 / 96.2"),
    "mahalanobis": ("78.0 / 70.9", "19.2 / 96.2"),
    "lof": ("76.7 / 67.5", "89.5 / 60.4"),
    "isolation_forest": ("98.6 / 41.9", "99.6 / 20.9"),
    "joint_energy": ("32.0 / 92.3", "10.9 / 96.8"),
}


@dataclass(frozen=True)
class Runs:
    """The seeds of one variant.

    Attributes:
        rows: figures by seed.
        scores: each image's, by seed, score and set; where they were kept.
    """

    rows: Mapping[int, Row]
    scores: Mapping[int, Mapping[str, Mapping[str, Values]]]

    def figure(self, seed: int, score: str, figure: str) -> float:
        """The mean over the OOD sets, in percent."""
        return 100 * mean(self.rows[seed]["scores"][score][name][figure] for name in OOD)


@dataclass(frozen=True)
class Difference:
    """One mean over paired seeds less another, in points, with intervals of 95 %.

    Attributes:
        seeds: how many.
        over_seeds: Student's, of the seeds' differences; None of one seed.
        over_images: the percentile bootstrap's: known images and those of each OOD set are drawn again, the same for both
            sides and all seeds.
    """

    value: float
    seeds: int
    over_seeds: tuple[float, float] | None
    over_images: tuple[float, float]


def student(differences: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of their mean."""
    if len(differences) < 2:
        return None
    margin = t.ppf(0.975, len(differences) - 1) * np.std(differences, ddof=1) / math.sqrt(len(differences))
    return mean(differences) - float(margin), mean(differences) + float(margin)


def compare(a: Runs, b: Runs, scores: tuple[str, str], figure: str) -> Difference | None:
    """Score `scores[0]` of `a` less `scores[1]` of `b`, over the seeds that both have."""
    seeds = sorted(a.rows.keys() & b.rows.keys())
    if not seeds:
        return None
    each = [a.figure(seed, scores[0], figure) - b.figure(seed, scores[1], figure) for seed in seeds]
    rng = np.random.default_rng(0)
    sizes = {name: len(own) for name, own in a.scores[seeds[0]][scores[0]].items()}
    drawn = []
    for _ in range(RESAMPLES):
        rows = {name: rng.integers(0, size, size) for name, size in sizes.items()}
        drawn.append(
            mean(
                _drawn(a.scores[seed][scores[0]], rows, figure) - _drawn(b.scores[seed][scores[1]], rows, figure)
                for seed in seeds
            )
        )
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Difference(mean(each), len(seeds), student(each), (float(low), float(high)))


def _drawn(values: Mapping[str, Values], rows: Mapping[str, npt.NDArray[np.int64]], figure: str) -> float:
    known = np.sort(values["known"][rows["known"]])
    found = [_figure(known, values[name][rows[name]], figure) for name in OOD]
    return 100 * mean(found)


def _figure(known: Values, unknown: Values, figure: str) -> float:
    """FPR95 or AUROC of sorted known scores, as :func:`export.metrics.detection.detection` has them."""
    if figure == "fpr95":
        return float((unknown >= known[len(known) - math.ceil(0.95 * len(known))]).mean())
    below = np.searchsorted(known, unknown, "left") + np.searchsorted(known, unknown, "right")
    return float(1 - below.mean() / (2 * len(known)))


def stored(work: Path) -> dict[str, dict[str, dict[str, Runs]]]:
    """By backbone, part and variant."""
    found: dict[str, dict[str, dict[str, dict[int, Path]]]] = {}
    for file in sorted(work.glob("*.json")):
        backbone, *rest = file.stem.split("-")
        if len(rest) >= 3 and rest[0] in TITLES:
            part, *variant, seed = rest
            found.setdefault(backbone, {}).setdefault(part, {}).setdefault("-".join(variant), {})[int(seed)] = file
    return {
        backbone: {part: {name: _runs(files) for name, files in variants.items()} for part, variants in parts.items()}
        for backbone, parts in found.items()
    }


def _runs(files: Mapping[int, Path]) -> Runs:
    rows = {seed: json.loads(file.read_text()) for seed, file in files.items()}
    return Runs(rows, {seed: _scores(file.with_suffix(".npz")) for seed, file in files.items()})


def _scores(file: Path) -> dict[str, dict[str, Values]]:
    found: dict[str, dict[str, Values]] = {}
    with np.load(file) as arrays:
        for title in arrays.files:
            score, name = title.split(" ")
            found.setdefault(score, {})[name] = arrays[title]
    return found


def table(variants: Mapping[str, Runs]) -> str:
    """Each score of each variant: means over the seeds."""
    rows = [
        ["variant", "seeds", "mAP", "score", *(f"{name}: FPR95 / AUROC" for name in OOD), "mean FPR95", "mean AUROC"]
    ]
    for variant, runs in variants.items():
        precisions = [100 * row["map"] for row in runs.rows.values()]
        for score in SCORES:
            having = [seed for seed, row in runs.rows.items() if score in row["scores"]]
            if not having:
                continue
            cells = []
            for name in OOD:
                pair = (
                    100 * mean(runs.rows[seed]["scores"][score][name][figure] for seed in having)
                    for figure in ("fpr95", "auroc")
                )
                cells.append(" / ".join(f"{value:.1f}" for value in pair))
            means = [[runs.figure(seed, score, figure) for seed in having] for figure in ("fpr95", "auroc")]
            rows.append(
                [variant, f"{len(having)}", _spread(precisions), f"`{score}`", *cells, *(_spread(own) for own in means)]
            )
    return layout(rows, markdown=True)


def _spread(values: Sequence[float]) -> str:
    """The mean, and the standard deviation over seeds."""
    return f"{mean(values):.1f}" + (f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else "")


def against_scores(base: Runs) -> str:
    """`joint_energy` of a variant less its other scores."""
    others = [score for score in SCORES[1:] if all(score in row["scores"] for row in base.rows.values())]
    pairs = {f"`joint_energy` - `{other}`": (base, base, ("joint_energy", other)) for other in others}
    return _differences("binary cross-entropy alone", pairs)


def against_variants(base: Runs, variants: Mapping[str, Runs]) -> str:
    """Every variant less the first, by the same score."""
    pairs = {
        f"{variant} - bce, `{score}`": (runs, base, (score, score))
        for variant, runs in variants.items()
        for score in ("joint_energy", "max_logit", "mahalanobis++")
        if runs is not base and all(score in row["scores"] for row in (*runs.rows.values(), *base.rows.values()))
    }
    return _differences("spectral normalisation", pairs)


def _differences(title: str, pairs: Mapping[str, tuple[Runs, Runs, tuple[str, str]]]) -> str:
    rows = [[title, "seeds", "FPR95", "over seeds", "over images", "AUROC", "over seeds", "over images"]]
    for name, pair in pairs.items():
        found = [one for figure in ("fpr95", "auroc") if (one := compare(*pair, figure))]
        if found:
            cells = [[f"{one.value:+.2f}", _interval(one.over_seeds), _interval(one.over_images)] for one in found]
            rows.append([name, f"{found[0].seeds}", *cells[0], *cells[1]])
        else:
            rows.append([name, "not measured", *[""] * 6])
    return layout(rows, markdown=True)


def _interval(interval: tuple[float, float] | None) -> str:
    return f"{interval[0]:+.2f} to {interval[1]:+.2f}" if interval else "one seed"


def absent(found: Mapping[str, Mapping[str, Mapping[str, Runs]]]) -> str:
    """The runs that the command knows and that are not there, a line for each backbone and part."""
    lines = []
    for backbone, known in BACKBONES.items():
        for part, variants in TABLES.items():
            there = found.get(backbone, {}).get(part, {})
            if missing := [f"`{name}`" for name in variants if name not in there]:
                lines.append(f"- {known.title}, {TITLES[part]}: {', '.join(missing)}")
    return "\n".join(lines)


def page(work: Path, protocol: str) -> str:
    """The page of what is there."""
    parts = [
        "# SNoJoE on photographs, measured",
        f"By `python -m benchmarks.snojoe DATA --work DIR`. {protocol}",
        READING,
        VARIANTS,
    ]
    for backbone, found in stored(work).items():
        for part, variants in found.items():
            parts += [f"## {BACKBONES[backbone].title}, {TITLES[part]}", table(variants)]
            if base := variants.get("bce"):
                parts.append(against_scores(base))
            if base and len(variants) > 1:
                parts.append(against_variants(base, variants))
    if missing := absent(stored(work)):
        parts += ["## Not measured", missing]
    rows = [["score", "ImageNet-22K: FPR95 / AUROC", "Textures: FPR95 / AUROC"]]
    rows += [[f"`{score}`", *own] for score, own in PAPER.items()]
    parts += ["## The paper's figures", PAPER_READING, layout(rows, markdown=True)]
    return "\n\n".join(parts) + "\n"


TITLES = {
    "frozen": "the classifier alone",
    "upper": "the upper stages and the classifier",
    "tuned": "the whole network",
}
READING = (
    "FPR95 (ID-positive) and AUROC in percent; `±` is the standard deviation over seeds. Known are half of coco18-val's "
    "images; what is fitted is fitted on the training images. `msp` is the largest softmax probability, as in the paper's "
    "table; the largest sigmoid orders images as `max_logit` does. `odin` is by the largest sigmoid, T = 1, with a step of "
    "0.0014. `mahalanobis` has a mean for each label and one covariance; `lof` and `isolation_forest` are scikit-learn's, "
    "with their defaults, on the penultimate features. Differences are of the means over the three sets, in points, with "
    "intervals of 95 %: over seeds Student's of the paired differences, over images the bootstrap's, where every resample is "
    "the same for both sides."
)
VARIANTS = (
    "`bce` is binary cross-entropy alone. Of the classifier alone, `stages=all` has the weights of all convolutions "
    "divided by their spectral norms as matrices, once and without training: the statistics of the batch "
    "normalisations behind them are `kept`, or `divided` along, after which these put out what they did before but "
    "for epsilon. Of the upper stages, `matrix` is SNoJoE with all convolutions: the norms are 1 in every step of the "
    "upper ones, the lower ones, which are not trained, are `divided`; `operator` has the norms of the upper "
    "convolutions as linear maps, and `bounded` at most 3 of these, and at most 10 of the gains behind them."
)
PAPER_READING = "ResNet-101 on PASCAL-VOC, one run: SNoJoE itself has 28.5 / 93.5 and 5.0 / 98.5."
