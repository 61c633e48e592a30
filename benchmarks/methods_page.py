"""The page of `benchmarks.methods`: its tables and its plots."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from scipy.stats import t as student_t

from export.report.table import layout

NEAR = "cifar100"
OOD = (NEAR, "tinyimagenet", "textures", "svhn")

Run = Mapping[str, Any]
BySeed = Mapping[int, Run]


def fpr95(run: Run, score: str | None = None) -> list[float]:
    """FPR95 (ID-positive) against each OOD set that it has, in percent; by the gate's score if none is named."""
    figures = run["evaluation"]
    return [
        100 * figures["ood"][name]["scores"][score or figures["score"]]["fpr95_id_positive"] for name in sets_of(run)
    ]


def sets_of(run: Run) -> list[str]:
    """The OOD sets of a run, the near one first."""
    return [name for name in OOD if name in run["evaluation"]["ood"]]


def by_method_and_seed(runs: Mapping[str, Run]) -> dict[str, dict[int, Run]]:
    """Runs called METHOD-SEED, in their order."""
    found: dict[str, dict[int, Run]] = {}
    for key, run in runs.items():
        method, _, seed = key.rpartition("-")
        found.setdefault(method, {})[int(seed)] = run
    return found


def paired(values: Sequence[float]) -> str:
    """The mean of differences between runs of the same seed, and Student's 95 % interval of it where there are several."""
    if len(values) < 2:
        return f"{values[0]:+.1f}"
    half = float(student_t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return f"{mean(values):+.1f} [{mean(values) - half:+.1f}, {mean(values) + half:+.1f}]"


def page(results: Mapping[str, Any], name: str) -> str:
    """The page in Markdown, which shows plots called `name`_*.png; methods are listed in the order of the runs."""
    by_method = by_method_and_seed(results["runs"])
    sets = sets_of(next(iter(results["runs"].values())))
    rows = [["method", "seeds", "gate score", "accuracy", "accepted", *sets, "average", "energy", "msp"]]
    norms = [["method", "on", "||grad S||, 50 %", "||grad S||, 95 %", "radius, 5 %", "radius, 50 %"]]
    for method, of_seed in by_method.items():
        seeds = list(of_seed.values())
        values = np.array([fpr95(run) for run in seeds])
        rows.append(
            [
                method,
                str(len(seeds)),
                ", ".join(sorted({run["evaluation"]["score"] for run in seeds})),
                _spread(100 * run["evaluation"]["id"]["accuracy"] for run in seeds),
                _spread(100 * run["evaluation"]["id"]["acceptance"] for run in seeds),
                *(_spread(column) for column in values.T),
                _spread(values.mean(axis=1)),
                *(_spread(mean(fpr95(run, score)) for run in seeds) for score in ("energy", "msp")),
            ]
        )
        for where in ("ID", NEAR):
            cells = [(seeds[0]["radius"][where][quantity], level) for quantity, level in _RADII]
            norms.append([method, where, *(_number(quantiles.get(level)) for quantiles, level in cells)])
    return (
        "\n\n".join(
            [
                "# Training methods, measured",
                "Made by " + results["protocol"],
                "FPR95 (ID-positive): the share in percent of OOD images accepted where 95 % of known images are. Lower is "
                "better. The gate's score and the energy's temperature were chosen without the OOD sets; the columns energy "
                "and msp give the average by these scores. Mean and standard deviation over the seeds.",
                layout(rows, markdown=True),
                f"![FPR95 by method]({name}_fpr95.png)",
                "## What each method changes",
                f"Differences of FPR95 on the near set, {NEAR}, of its average and of accuracy in points, each by the score "
                "named: of runs of the same seed, with Student's 95 % interval of their mean where there are several seeds. "
                "Mean norms of the detected training images' gradients by normalised pixels in the last epoch, of the first "
                "seed.",
                layout(effects(by_method), markdown=True),
                f"![The gate's score on known and unknown images]({name}_scores.png)",
                "## How flat the score is",
                "The norm of the energy's gradient with respect to pixels in [0, 1], and the first-order radius "
                "(S - threshold) / ||grad S||, an estimate and not a certificate; quantiles over images, of the first seed. "
                "A negative radius is an image on the reject side.",
                layout(norms, markdown=True),
                f"![Energy loss and gradient norm during fine-tuning]({name}_gradient.png)",
            ]
        )
        + "\n"
    )


_RADII = (
    ("gradient_norm", "0.5"),
    ("gradient_norm", "0.95"),
    ("first_order_radius", "0.05"),
    ("first_order_radius", "0.5"),
)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _spread(values: Iterable[float]) -> str:
    found = list(values)
    return f"{mean(found):.1f}" + (f" ± {stdev(found):.1f}" if len(found) > 1 else "")


def effects(by_method: Mapping[str, BySeed]) -> list[list[str]]:
    """What each method changes against the one it starts from, seed by seed: points of FPR95 and of accuracy; the norms."""
    rows = [
        ["method", "against", "by", "seeds", NEAR, "average FPR95", "accuracy", "norm of grad S, known", "auxiliary"]
    ]
    for name, base, score, base_score in _EFFECTS:
        seeds = sorted(by_method.get(name, {}).keys() & by_method.get(base, {}).keys())
        if not seeds:
            continue
        pairs = [(by_method[name][seed], by_method[base][seed]) for seed in seeds]
        own, theirs = [fpr95(run, score) for run, _ in pairs], [fpr95(other, base_score) for _, other in pairs]
        rows.append(
            [
                name,
                base,
                score if score == base_score else f"{score}, {base_score}",
                str(len(seeds)),
                paired([a[0] - b[0] for a, b in zip(own, theirs, strict=True)]),
                paired([mean(a) - mean(b) for a, b in zip(own, theirs, strict=True)]),
                paired(
                    [
                        100 * (run["evaluation"]["id"]["accuracy"] - other["evaluation"]["id"]["accuracy"])
                        for run, other in pairs
                    ]
                ),
                *(_change(pairs[0][1], pairs[0][0], f"train_gradient_norm_{side}") for side in ("in", "aux")),
            ]
        )
    return rows


# A method, what it is held against, and the score that each is judged by.
_EFFECTS = (
    ("logitnorm", "cross-entropy", "msp", "msp"),
    ("logit-penalty", "cross-entropy", "msp", "msp"),
    ("energy", "cross-entropy", "energy", "energy"),
    ("oe", "cross-entropy", "msp", "msp"),
    ("greg", "energy", "energy", "energy"),
    ("greg-oe", "oe", "msp", "msp"),
    ("greg+", "energy", "energy", "energy"),
    ("greg+", "greg", "energy", "energy"),
    ("greg", "cross-entropy", "energy", "msp"),
)


def _change(before: Mapping[str, Any], after: Mapping[str, Any], tag: str) -> str:
    """The last values of a training curve that both have."""
    if tag not in before["curves"] or tag not in after["curves"]:
        return ""
    return " → ".join(_number(run["curves"][tag][-1]) for run in (before, after))


def plots(results: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of the page by the end of their file names."""
    from matplotlib.figure import Figure

    runs = results["runs"]
    by_method = by_method_and_seed(runs)
    seed = min(seed for of_seed in by_method.values() for seed in of_seed)
    first = {method: of_seed[seed] for method, of_seed in by_method.items() if seed in of_seed}
    sets = sets_of(next(iter(runs.values())))
    bars = Figure(figsize=(max(6, 1.2 * len(first)), 3.5), layout="constrained")
    axes = bars.subplots()
    for i, name in enumerate(sets):
        heights = [mean(fpr95(run)[i] for run in by_method[method].values()) for method in first]
        axes.bar(
            np.arange(len(first)) + 0.8 / len(sets) * (i - (len(sets) - 1) / 2), heights, 0.75 / len(sets), label=name
        )
    axes.set_xticks(np.arange(len(first)), list(first))
    axes.set_ylabel("FPR95, %")
    bars.legend(loc="outside upper right", ncols=len(sets), frameon=False)
    scores = Figure(figsize=(2.6 * len(first), 2.6), layout="constrained")
    for axes, (name, run) in zip(np.atleast_1d(scores.subplots(1, len(first))), first.items(), strict=True):
        for label, density in run["histogram"]["density"].items():
            axes.stairs(
                density, run["histogram"]["edges"], fill=label == "ID", alpha=0.4 if label == "ID" else 1, label=label
            )
        axes.set_title(f"{name}: {run['evaluation']['score']}", fontsize=9)
        axes.set_yticks([])
    axes.legend(frameon=False, fontsize=7)
    gradient = Figure(figsize=(8, 3), layout="constrained")
    loss_axes, norm_axes = gradient.subplots(1, 2)
    for name in ("energy", "greg", "greg+"):
        if name in first and "train_gradient_norm_in" in (curve := first[name]["curves"]):
            epochs = np.arange(1, len(curve["train_energy"]) + 1)
            loss_axes.plot(epochs, curve["train_energy"], marker=".", label=name)
            norm_axes.plot(epochs, curve["train_gradient_norm_in"], marker=".", label=f"{name}, known")
            norm_axes.plot(epochs, curve["train_gradient_norm_aux"], marker=".", ls=":", label=f"{name}, auxiliary")
    for axes, title in ((loss_axes, "weighted energy loss"), (norm_axes, "mean norm of the detected images' gradient")):
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("epoch")
        if axes.lines:
            axes.legend(frameon=False, fontsize=7)
    return {"fpr95": bars, "scores": scores, "gradient": gradient}


def write(results: Mapping[str, Any], docs: Path, name: str) -> None:
    """The results, the page and its plots: docs/measured/NAME.json, .md, _*.png."""
    (docs / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")
    (docs / f"{name}.md").write_text(page(results, name))
    for plot, figure in plots(results).items():
        figure.savefig(docs / f"{name}_{plot}.png", dpi=110, metadata={"Software": None})
