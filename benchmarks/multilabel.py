"""Does spectral normalisation help a multi-label gate? SNoJoE with L = 0, 7, 8 and 9 normalised layers.

    python -m benchmarks.mosaics DATA MOSAICS
    python -m benchmarks.multilabel MOSAICS [--init CKPT] [--layers 0 7 8 9] [--epochs 3] [--runs runs/multilabel]

Each network starts from CKPT if one is given, as the paper's starts from a pretrained classifier. It is trained on
MOSAICS/train.tar, exported with joint_energy as its gate, calibrated on calibration.tar and evaluated on evaluation.tar
against every ood-*.tar. What is trained already is not trained again; docs/measured/multilabel.json grows run by run, and
docs/measured/multilabel.md is written from it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.methods import CHECKPOINT, command, stored
from benchmarks.paths import MEASURED
from export.evaluate.bundles import evaluate_sources
from export.report.table import layout
from runtime.gate import Gate

SCORES = ("joint_energy", "max_logit", "msp")


def measure(mosaics: Path, run: Path, layers: int, training: Sequence[object]) -> dict[str, Any]:
    """Train, export and evaluate one network."""
    calibration = mosaics / "calibration.tar"
    options: list[object] = ["--method", "snojoe", "--set", f"layers={layers}", *training, "--out", run, "--resume"]
    command("train", *options, "--data", mosaics / "train.tar", "--val", calibration)
    export = ("--checkpoint", run / CHECKPOINT, "--out", run / "bundle", "--calibration", calibration)
    command("export", *export, "--score", "joint_energy")
    sources = {path.stem.removeprefix("ood-"): str(path) for path in sorted(mosaics.glob("ood-*.tar"))}
    (found,) = evaluate_sources([Gate.load(run / "bundle")], str(mosaics / "evaluation.tar"), sources)
    return found.figures.to_dict()


def page(results: Mapping[str, Any]) -> str:
    """docs/measured/multilabel.md."""
    runs: Mapping[str, Any] = results["runs"]
    names = list(next(iter(runs.values()))["ood"])
    rows = [["normalised layers", "mAP", "accepted", "score", *names, "average FPR95", "average AUROC"]]
    for layers, run in sorted(runs.items(), key=lambda item: int(item[0])):
        for score in SCORES:
            figures = [run["ood"][name]["scores"][score] for name in names]
            fpr = [100 * each["fpr95_id_positive"] for each in figures]
            rows.append(
                [
                    layers,
                    f"{100 * run['id']['mean_average_precision']['value']:.1f}",
                    f"{100 * run['id']['acceptance']:.1f}",
                    f"`{score}`",
                    *(f"{value:.1f}" for value in fpr),
                    f"{mean(fpr):.1f}",
                    f"{100 * mean(each['auroc'] for each in figures):.1f}",
                ]
            )
    return (
        "\n\n".join(
            [
                "# Several labels an image, measured",
                "Made by `python -m benchmarks.multilabel MOSAICS`: " + results["protocol"],
                "FPR95 (ID-positive) in percent against each unknown set: lower is better.",
                layout(rows, markdown=True),
            ]
        )
        + "\n"
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mosaics", type=Path, metavar="MOSAICS")
    parser.add_argument("--layers", type=int, nargs="+", default=[0, 7, 8, 9], help="default: %(default)s")
    parser.add_argument("--init", type=Path, metavar="CKPT", help="start from a network of the same classes")
    parser.add_argument("--epochs", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--learning-rate", type=float, default=0.05, help="default: %(default)s")
    parser.add_argument("--arch", default="resnet20", help="default: %(default)s")
    parser.add_argument("--runs", type=Path, default=Path("runs/multilabel"), help="default: %(default)s")
    parser.add_argument("--docs", type=Path, default=MEASURED, help="where the page goes; default: %(default)s")
    args = parser.parse_args(argv)
    start = "fine-tuned from cross-entropy on CIFAR-10" if args.init else "from scratch"
    text = (
        f"{args.arch} on 64 x 64 mosaics of CIFAR-10, {start}, {args.epochs} epochs from a rate of "
        f"{args.learning_rate}, one seed."
    )
    training: list[object] = ["--arch", args.arch, "--size", 64, "--epochs", args.epochs]
    training += ["--learning-rate", args.learning_rate, *(["--init", args.init] if args.init else [])]
    file = args.docs / "multilabel.json"
    runs = stored(file, text)
    results = {"protocol": text, "runs": runs}
    for layers in args.layers:
        if str(layers) not in runs:
            runs[str(layers)] = measure(args.mosaics, args.runs / str(layers), layers, training)
            file.write_text(json.dumps(results, indent=1) + "\n")
            (args.docs / "multilabel.md").write_text(page(results))


if __name__ == "__main__":
    main()
