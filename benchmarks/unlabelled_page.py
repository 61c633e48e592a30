"""The page of `benchmarks.unlabelled`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import processor
from export.report.table import layout, percent

CLASSES = ("airplane", "deer", "ship")
OOD = ("ood-cifar100", "ood-tinyimagenet", "ood-svhn", "ood-textures")
KIND = "airplane"  # of COCO's labels, in images that have no other
# NAN, tables 3 (without labels, average) and 4: AUROC in percent, ResNet-18, MoCo-v2, 800 epochs of batches of 512.
PAPER_ONE_CLASS = {"nan": 93.7, "ssd": 91.1, "nan_ssd": 94.3, "knn": 92.1, "nan_knn": 94.3}
PAPER_LABEL_FREE = {"nan": 92.5, "ssd": 91.6, "nan_ssd": 93.9, "knn": 93.3, "nan_knn": 93.9}
SCORES = ("nan", "ssd", "nan_ssd", "knn", "nan_knn", "feature_norm")

Row = dict[str, Any]


def page(work: Path) -> str:
    """The parts that are done, from their files."""
    parts = [
        "# Gates without labels, measured",
        f"By `python -m benchmarks.unlabelled DATA --work DIR`, with the budget beside each table as options, on "
        f"{processor()}. AUROC and FPR95 (ID-positive) in percent, with 95 % intervals; of MoCo every score is "
        "the mean over nine translations of an image.",
        "**Budget.** The paper (NAN, sections 6.3 and 6.4) trains a ResNet-18 for 800 epochs of all images, in batches of "
        "512; ours stands beside each table. The paper's figures are there for the distance, and are not reached so.",
        "## One class of CIFAR-10, by MoCo-v2 with rotations",
    ]
    found = {name: json.loads(file.read_text()) for name in CLASSES if (file := work / f"{name}.json").exists()}
    if found:
        columns = {name: one["scores"] for name, one in found.items()}
        parts += [budgets(found), separations_table(columns, PAPER_ONE_CLASS, "paper, mean of 10 classes")]
    else:
        parts.append("Not measured yet.")
    parts.append("## CIFAR-10 without its labels, by MoCo-v2")
    if (file := work / "all.json").exists():
        whole = json.loads(file.read_text())
        columns = {name: whole["sets"][name]["scores"] for name in OOD}
        parts += [budgets({"all": whole}), separations_table(columns, PAPER_LABEL_FREE, "paper, mean of its 5 sets")]
    else:
        parts.append("Not measured yet.")
    if (file := work / "frozen.json").exists():
        parts += frozen_section(json.loads(file.read_text()))
    return "\n\n".join(parts) + "\n"


def budgets(found: Mapping[str, Row]) -> str:
    """What each part was given, once where it was the same."""
    given: dict[str, list[str]] = {}
    for name, one in found.items():
        given.setdefault(one["budget"], []).append(name)
    if len(given) == 1:
        return f"Here: {next(iter(given))}. AUROC."
    return "Here: " + "; ".join(f"{', '.join(names)}: {budget}" for budget, names in given.items()) + ". AUROC."


def separations_table(columns: Mapping[str, Row], paper: Mapping[str, float], title: str) -> str:
    """AUROC by score and column, their mean, and the paper's."""
    rows = [["score", *columns, "mean", title]]
    for score in SCORES:
        each = [scores[score]["auroc"] for scores in columns.values()]
        mean = f"{100 * np.mean([figure[0] for figure in each]):.1f}"
        rows.append([score, *map(_cell, each), mean, f"{paper.get(score, '-')}"])
    return layout(rows, True)


def _cell(figure: Sequence[float]) -> str:
    return percent(figure[0], (figure[1], figure[2]))


def frozen_section(found: Row) -> list[str]:
    rows = [["gate", "set", "images", "accepted or rejected", "promised", "AUROC", "FPR95"]]
    for gate, figures in found["gates"].items():
        own = figures["id"]
        promised = " to ".join(f"{100 * bound:.1f}" for bound in own["acceptance_expected"])
        accepted = percent(own["acceptance"], tuple(own["acceptance_interval"]))
        name = f"{gate}: {figures['score']}" if gate != figures["score"] else gate
        rows.append([name, f"{KIND}, held out", f"{own['images']}", f"{accepted} accepted", promised, "", ""])
        for other, ood in figures["ood"].items():
            rejected = percent(ood["rejection"], tuple(ood["rejection_interval"]))
            scores, within = ood["scores"][figures["score"]], ood["intervals"][figures["score"]]
            cells = [percent(scores[field], tuple(within[field])) for field in ("auroc", "fpr95_id_positive")]
            rows.append([name, other, f"{ood['images']}", f"{rejected} rejected", "", *cells])
    return [
        "## Frozen features, no training",
        "EfficientNet-lite0 with its ImageNet weights, exported with `--task unlabelled`; known are COCO's photographs of "
        f"{KIND} and of nothing else: {found['fitted']} training images fit the distances, {found['calibrated']} others "
        "calibrate at alpha = 0.1. `auto` chose its score by outliers made of calibration images; what is below set nothing.",
        layout(rows, True),
    ]
