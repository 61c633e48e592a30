"""The page of `benchmarks.methods`: its tables and its plots."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from export.report.table import layout

OOD = ("cifar100", "tinyimagenet", "textures")


def fpr95(run: Mapping[str, Any], score: str | None = None) -> list[float]:
    """FPR95 (ID-positive) against each OOD set, in percent; by the gate's score if none is named."""
    figures = run["evaluation"]
    return [100 * figures["ood"][name]["scores"][score or figures["score"]]["fpr95_id_positive"] for name in OOD]


def page(results: Mapping[str, Any], name: str) -> str:
    """The page in Markdown, which shows plots called `name`_*.png; methods are listed in the order of the runs."""
    runs: Mapping[str, Mapping[str, Any]] = results["runs"]
    by_method: dict[str, list[Mapping[str, Any]]] = {}
    for key, run in runs.items():
        by_method.setdefault(key.rpartition("-")[0], []).append(run)
    rows = [["method", "seeds", "gate score", "accuracy", "accepted", *OOD, "average", "energy", "msp"]]
    norms = [["method", "on", "||grad S||, 50 %", "||grad S||, 95 %", "radius, 5 %", "radius, 50 %"]]
    for method, seeds in by_method.items():
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
        for where in ("ID", OOD[0]):
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
                "Differences of average FPR95 and of accuracy in points, each by the score named; mean norms of the "
                "detected training images' gradients by normalised pixels in the last epoch, of the first seed.",
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


def effects(by_method: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[list[str]]:
    """What each method changes against the one it starts from: points of average FPR95, of accuracy, and the norms."""
    rows = [["method", "against", "by", "average FPR95", "accuracy", "norm of grad S, known", "auxiliary"]]
    for name, base, score, base_score in _EFFECTS:
        if name not in by_method or base not in by_method:
            continue
        pairs = list(zip(by_method[name], by_method[base], strict=False))
        rows.append(
            [
                name,
                base,
                score if score == base_score else f"{score}, {base_score}",
                _spread(mean(fpr95(run, score)) - mean(fpr95(other, base_score)) for run, other in pairs),
                _spread(
                    100 * (run["evaluation"]["id"]["accuracy"] - o["evaluation"]["id"]["accuracy"]) for run, o in pairs
                ),
                *(
                    _change(by_method[base][0], by_method[name][0], f"train_gradient_norm_{side}")
                    for side in ("in", "aux")
                ),
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
    seed = min(int(key.rpartition("-")[2]) for key in runs)
    first = {key.rpartition("-")[0]: run for key, run in runs.items() if key.endswith(f"-{seed}")}
    bars = Figure(figsize=(max(6, 1.2 * len(first)), 3.5), layout="constrained")
    axes = bars.subplots()
    for i, name in enumerate(OOD):
        heights = [mean(fpr95(run)[i] for key, run in runs.items() if key.rpartition("-")[0] == m) for m in first]
        axes.bar(np.arange(len(first)) + 0.27 * (i - 1), heights, 0.25, label=name)
    axes.set_xticks(np.arange(len(first)), list(first))
    axes.set_ylabel("FPR95, %")
    bars.legend(loc="outside upper right", ncols=len(OOD), frameon=False)
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
