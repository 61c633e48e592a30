"""Which training method detects best? Every method trained, exported and evaluated as it is deployed.

    python -m benchmarks.methods DATA [--seeds 0 1 2] [--methods cross-entropy logitnorm ..] [--runs runs/methods]

DATA holds cifar10-train.tar, cifar10-val.tar, aux-*.tar and ood-*.tar. Cross-entropy and LogitNorm are trained from
scratch; the methods with auxiliary outliers fine-tune the cross-entropy network of the same seed. Each network is exported
with a gate score and an energy temperature chosen by AUROC between a quarter of the calibration half and the auxiliary
sets, calibrated on the rest of that half, and evaluated on the other half. What is trained already is not trained
again; docs/results.json grows run by run, and docs/results.md and its plots are written from it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from export.evaluate import evaluate_sources
from export.layout import layout
from runtime.gate import Gate

DOCS = Path(__file__).resolve().parent.parent / "docs"
RESULTS = "results"
CHECKPOINT = "checkpoint.safetensors"
OOD = ("cifar100", "tinyimagenet", "textures")
AUX = ("cifar100", "tinyimagenet")
BINS = 40


@dataclass(frozen=True)
class Contestant:
    """A method with its hyperparameters; `tuned` ones start from the cross-entropy network and see auxiliary outliers."""

    method: str
    settings: Mapping[str, float | str] = field(default_factory=dict)
    tuned: bool = True


CONTESTANTS = {
    "cross-entropy": Contestant("cross-entropy", tuned=False),
    "logitnorm": Contestant("logitnorm", tuned=False),
    "logit-penalty": Contestant("logit-penalty", tuned=False),
    # The energy loss with its gradient norm watched: GReg with a weight of zero.
    "energy": Contestant("greg", {"gradient_weight": 0}),
    "oe": Contestant("oe"),
    "greg": Contestant("greg"),
    "greg-oe": Contestant("greg-oe"),
    "greg+": Contestant("greg+"),
}


@dataclass(frozen=True)
class Protocol:
    """Where the images are, where runs go, and how long they are."""

    data: Path
    runs: Path
    arch: str
    epochs: int
    tune_epochs: int
    tune_rate: float

    def source(self, name: str) -> str:
        return str(self.data / f"{name}.tar")

    def calibration(self) -> str:
        return self.source("cifar10-val") + "@1/2"

    def evaluation(self) -> str:
        return self.source("cifar10-val") + "@2/2"


def command(module: str, *options: object) -> None:
    """Run one of the project's commands; its output is ours.

    Raises:
        SystemExit: it failed, or was stopped.
    """
    process = subprocess.run([sys.executable, "-m", module, *map(str, options)], check=False)
    if process.returncode:
        raise SystemExit(process.returncode)


def train(protocol: Protocol, name: str, seed: int) -> Path:
    """The run of a contestant, trained if it is not complete; returns its checkpoint."""
    contestant = CONTESTANTS[name]
    run = protocol.runs / f"{name}-{seed}"
    options: list[object] = ["--method", contestant.method, "--arch", protocol.arch, "--seed", seed, "--resume"]
    options += ["--data", protocol.source("cifar10-train"), "--val", protocol.calibration(), "--out", run]
    for key, value in contestant.settings.items():
        options += ["--set", f"{key}={value}"]
    if contestant.tuned:
        options += ["--init", train(protocol, "cross-entropy", seed), "--epochs", protocol.tune_epochs]
        options += ["--learning-rate", protocol.tune_rate, "--warmup", 0]
        for aux in AUX:
            options += ["--aux", protocol.source(f"aux-{aux}")]
    else:
        options += ["--epochs", protocol.epochs]
    command("train", *options)
    return run / CHECKPOINT


def measure(protocol: Protocol, checkpoint: Path) -> dict[str, Any]:
    """Export, evaluate, and the gradient norms of the energy; everything that the page tells of a run."""
    bundle = checkpoint.parent / "bundle"
    options: list[object] = ["--checkpoint", checkpoint, "--out", bundle, "--calibration", protocol.calibration()]
    for aux in AUX:
        options += ["--aux", protocol.source(f"aux-{aux}")]
    command("export", *options, "--score", "auto")
    sources = {name: protocol.source(f"ood-{name}") for name in OOD}
    (found,) = evaluate_sources([Gate.load(bundle)], protocol.evaluation(), sources)
    column = found.gate.manifest.scores.index(found.figures.score)
    scores = {"ID": found.known.scores[:, column], **{k: v.scores[:, column] for k, v in found.unknown.items()}}
    edges = np.linspace(*np.quantile(np.concatenate(list(scores.values())), [0.001, 0.999]), BINS + 1)
    radius = checkpoint.parent / "radius.json"
    ood = [option for name, source in sources.items() for option in ("--ood", f"{name}={source}")]
    command("export.radius", checkpoint, "--id", protocol.evaluation(), *ood, "--json", radius)
    return {
        "evaluation": found.figures.to_dict(),
        "histogram": {
            "edges": edges.tolist(),
            "density": {name: np.histogram(values, edges, density=True)[0].tolist() for name, values in scores.items()},
        },
        "radius": json.loads(radius.read_text())["sets"],
        "curves": curves(checkpoint.parent),
    }


def curves(run: Path) -> dict[str, list[float]]:
    """TensorBoard's scalars of a run, one value an epoch."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run)).Reload()
    return {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def fpr95(run: Mapping[str, Any], score: str | None = None) -> list[float]:
    """FPR95 (ID-positive) against each OOD set, in percent; by the gate's score if none is named."""
    figures = run["evaluation"]
    return [100 * figures["ood"][name]["scores"][score or figures["score"]]["fpr95_id_positive"] for name in OOD]


def page(results: Mapping[str, Any]) -> str:
    """docs/results.md."""
    runs: Mapping[str, Mapping[str, Any]] = results["runs"]
    by_method: dict[str, list[Mapping[str, Any]]] = {}
    for key, run in runs.items():
        by_method.setdefault(key.rpartition("-")[0], []).append(run)
    known = [name for name in CONTESTANTS if name in by_method]
    rows = [["method", "seeds", "gate score", "accuracy", "accepted", *OOD, "average", "energy", "msp"]]
    norms = [["method", "on", "||grad S||, 50 %", "||grad S||, 95 %", "radius, 5 %", "radius, 50 %"]]
    for name in known:
        seeds = by_method[name]
        values = np.array([fpr95(run) for run in seeds])
        rows.append(
            [
                name,
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
            norms.append([name, where, *(_number(quantiles.get(level)) for quantiles, level in cells)])
    return (
        "\n\n".join(
            [
                "# Training methods, measured",
                "Made by `python -m benchmarks.methods DATA`: " + results["protocol"],
                "FPR95 (ID-positive): the share in percent of OOD images accepted where 95 % of known images are. Lower is "
                "better. The gate's score and the energy's temperature were chosen without the OOD sets; the columns energy "
                "and msp give the average by these scores. Mean and standard deviation over the seeds.",
                layout(rows, markdown=True),
                f"![FPR95 by method]({RESULTS}_fpr95.png)",
                "## What each method changes",
                "Differences of average FPR95 and of accuracy in points, each by the score named; mean norms of the "
                "detected training images' gradients by normalised pixels in the last epoch, of the first seed.",
                layout(effects(by_method), markdown=True),
                f"![The gate's score on known and unknown images]({RESULTS}_scores.png)",
                "## How flat the score is",
                "The norm of the energy's gradient with respect to pixels in [0, 1], and the first-order radius "
                "(S - threshold) / ||grad S||, an estimate and not a certificate; quantiles over images, of the first seed. "
                "A negative radius is an image on the reject side.",
                layout(norms, markdown=True),
                f"![Energy loss and gradient norm during fine-tuning]({RESULTS}_gradient.png)",
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
    """The figures of the page by file name."""
    from matplotlib.figure import Figure

    runs = results["runs"]
    seed = min(int(key.rpartition("-")[2]) for key in runs)
    first = {name: runs[f"{name}-{seed}"] for name in CONTESTANTS if f"{name}-{seed}" in runs}
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
    return {f"{RESULTS}_fpr95.png": bars, f"{RESULTS}_scores.png": scores, f"{RESULTS}_gradient.png": gradient}


def write(results: Mapping[str, Any], docs: Path) -> None:
    """The results, the page and its plots."""
    (docs / f"{RESULTS}.json").write_text(json.dumps(results, indent=1) + "\n")
    (docs / f"{RESULTS}.md").write_text(page(results))
    for name, figure in plots(results).items():
        figure.savefig(docs / name, dpi=110, metadata={"Software": None})


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--methods", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS), metavar="METHOD")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--arch", default="resnet20", help="default: %(default)s")
    parser.add_argument("--epochs", type=int, default=24, help="from scratch; default: %(default)s")
    parser.add_argument("--tune-epochs", type=int, default=2, help="of fine-tuning; default: %(default)s")
    parser.add_argument("--tune-rate", type=float, default=0.002, help="default: %(default)s")
    parser.add_argument("--runs", type=Path, default=Path("runs/methods"), help="default: %(default)s")
    parser.add_argument("--docs", type=Path, default=DOCS, help="where the page goes; default: %(default)s")
    args = parser.parse_args(argv)
    protocol = Protocol(args.data, args.runs, args.arch, args.epochs, args.tune_epochs, args.tune_rate)
    file = args.docs / f"{RESULTS}.json"
    text = (
        f"{args.arch}, {args.epochs} epochs from scratch, {args.tune_epochs} epochs of fine-tuning at {args.tune_rate}, "
        "with the auxiliary sets " + " and ".join(AUX) + "."
    )

    def stored() -> dict[str, Any]:
        before = json.loads(file.read_text()) if file.exists() else {}
        return before["runs"] if before.get("protocol") == text else {}

    for seed in args.seeds:
        for name in args.methods:
            if (key := f"{name}-{seed}") not in stored():
                found = measure(protocol, train(protocol, name, seed))
                write({"protocol": text, "runs": {**stored(), key: found}}, args.docs)  # others may have run beside


if __name__ == "__main__":
    main()
