"""A manifest and an evaluation to be told of, and how to read markdown back."""

from __future__ import annotations

from dataclasses import replace

from export.metrics.detection import Detection, DetectionIntervals
from export.metrics.evaluation import Evaluation, InDistribution, OutOfDistribution
from export.metrics.intervals import Interval
from export.metrics.selective import RiskCoverage
from runtime.manifest import Calibration, GateSpec, Manifest, ModelSpec
from tests.small import LABELS, SPEC

UNCALIBRATED = Manifest(
    model=ModelSpec("mine", "resnet20", "logitnorm", 272474, 64),
    task="multiclass",
    labels=LABELS,
    input=SPEC,
    scores=("msp", "energy"),
    provenance={"versions": {"torch": "1.2.3"}},
)
CALIBRATION = Calibration(1000, (1000,), {"msp": (0.5,), "energy": (4.25,)})
MANIFEST = replace(
    UNCALIBRATED,
    gate=GateSpec("energy", 4.25, 0.05, 0.95, 1000, (0.9355, 0.9621), 0.0618, CALIBRATION),
)


def at(value: float) -> Interval:
    """An interval of a percent either way."""
    return (value - 0.01, min(1.0, value + 0.01))


def unknown(source: str, images: int, rejection: float, scores: dict[str, Detection]) -> OutOfDistribution:
    intervals = {
        name: DetectionIntervals(**{field: at(value) for field, value in vars(figures).items()})
        for name, figures in scores.items()
    }
    return OutOfDistribution(source, images, rejection, at(rejection), scores, intervals)


EVALUATION = Evaluation(
    model="mine",
    sha256="abc",
    score="energy",
    threshold=4.25,
    alpha=0.05,
    id=InDistribution(
        source="val.tar@2/2",
        images=500,
        accuracy=0.9123,
        accuracy_interval=at(0.9123),
        accuracy_accepted=0.945,
        accuracy_accepted_interval=at(0.945),
        acceptance=0.952,
        acceptance_interval=at(0.952),
        acceptance_expected=(0.93, 0.968),
        risk_coverage={
            "confidence": RiskCoverage(0.0123, (0.01, 0.015), (0.01,) * 99 + (0.0877,)),
            "score": RiskCoverage(0.0234, (0.02, 0.03), (0.02,) * 99 + (0.0877,)),
        },
        mean_average_precision=None,
    ),
    ood={
        "textures": unknown(
            "dtd.tar",
            300,
            0.875,
            {"msp": Detection(0.91, 0.92, 0.93, 0.4, 0.45), "energy": Detection(0.95, 0.96, 0.97, 0.2, 0.25)},
        ),
        "noise": unknown(
            "noise.npz",
            100,
            0.98,
            {"msp": Detection(0.81, 0.82, 0.83, 0.5, 0.55), "energy": Detection(1.0, 1.0, 1.0, 0.01, 0.01)},
        ),
    },
)
HEADER = ["OOD set", "score", "AUROC", "FPR95 ID-pos.", "FPR95 OOD-pos.", "AUPR-in", "AUPR-out"]
ROWS = [
    ["textures", "msp", "91.00 90.0-92.0", "40.00 39.0-41.0", "45.00 44.0-46.0", "92.00 91.0-93.0", "93.00 92.0-94.0"],
    [
        "textures",
        "energy *",
        "95.00 94.0-96.0",
        "20.00 19.0-21.0",
        "25.00 24.0-26.0",
        "96.00 95.0-97.0",
        "97.00 96.0-98.0",
    ],
    ["noise", "msp", "81.00 80.0-82.0", "50.00 49.0-51.0", "55.00 54.0-56.0", "82.00 81.0-83.0", "83.00 82.0-84.0"],
    ["noise", "energy *", *["100.00 99.0-100.0"], *["1.00 0.0-2.0"] * 2, *["100.00 99.0-100.0"] * 2],
]


def markdown_tables(text: str) -> list[list[list[str]]]:
    """The cells of every table, header first, without the rule."""
    tables: list[list[list[str]]] = []
    inside = False
    for line in text.splitlines():
        if line.startswith("|"):
            if not inside:
                tables.append([])
            if set(line) > {"|", "-"} or set(line) - {"|", "-"}:
                tables[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        inside = line.startswith("|")
    return tables
