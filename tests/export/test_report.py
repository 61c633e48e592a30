"""What people read: tables that can be read back, a card that says what the gate promises."""

from __future__ import annotations

import json
from dataclasses import replace

from export.evaluation import Evaluation, InDistribution, OutOfDistribution
from export.intervals import Interval
from export.metrics import Detection, DetectionIntervals
from export.multilabel import MeanAveragePrecision
from export.report import card, comparison, documents, gate_text, markdown, summary, table
from export.selective import RiskCoverage
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
MANIFEST = replace(
    UNCALIBRATED,
    gate=GateSpec("energy", 4.25, 0.05, 0.95, 1000, (0.9355, 0.9621)),
    calibration=Calibration(1000, (1000,), {"msp": (0.5,), "energy": (4.25,)}),
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


def test_table_columns_line_up() -> None:
    lines = table(EVALUATION).splitlines()
    starts = [lines[0].index(title) for title in HEADER]
    cells = [[line[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)] for line in lines]
    assert cells == [HEADER, *ROWS]


def test_markdown_table() -> None:
    text = table(EVALUATION, markdown=True)
    assert markdown_tables(text) == [[HEADER, *ROWS]]
    assert set(text.splitlines()[1]) == {"|", "-"}
    assert len({len(line) for line in text.splitlines()}) == 1


def test_summary() -> None:
    text = summary(EVALUATION)
    assert text.splitlines()[0] == "gate: energy >= 4.25 (alpha = 0.05)"
    for part in (
        "val.tar@2/2: 500 images, 95.20 94.2-96.2 % accepted",
        "93.00 to 96.80",
        "ID accuracy: 91.23 90.2-92.2 %",
        "accepted images: 94.50 93.5-95.5 %",
        "AURC by confidence (largest softmax probability): 1.23 1.0-1.5 %",
        "AURC by the gate's energy: 2.34 2.0-3.0 %",
        "OOD textures: 300 images, 87.50 86.5-88.5 % rejected",
        "OOD noise: 100 images, 98.00 97.0-99.0 % rejected",
    ):
        assert part in text


def test_summary_without_accuracy() -> None:
    known = replace(EVALUATION.id, accuracy=None, accuracy_accepted=None, risk_coverage={})
    text = summary(replace(EVALUATION, id=known))
    assert "accuracy" not in text
    assert "AURC" not in text


def test_summary_of_a_multilabel_model() -> None:
    known = replace(EVALUATION.id, mean_average_precision=MeanAveragePrecision(0.7, (0.6, 0.8), 12))
    assert "ID mean average precision: 70.00 60.0-80.0 % over 12 labels" in summary(replace(EVALUATION, id=known))


def test_gate_text_says_what_is_promised() -> None:
    text = gate_text(MANIFEST)
    for part in ("`energy >= 4.25`", "1000 in-distribution images", "at most 0.05", "93.55 %", "96.21 %"):
        assert part in text


def test_gate_text_before_calibration() -> None:
    assert gate_text(UNCALIBRATED).startswith("Not calibrated: the file rejects everything.")


def test_card() -> None:
    text = card(MANIFEST, EVALUATION)
    assert text.startswith("# mine\n")
    assert gate_text(MANIFEST) in text
    assert ".png" not in text
    facts, figures = markdown_tables(text)
    assert ["architecture", "resnet20, 272,474 parameters, 64 penultimate features"] in facts
    assert ["labels", "cat, dog, ship"] in facts
    assert ["training method", "logitnorm"] in facts
    assert figures == [HEADER, *ROWS]
    provenance = text.split("```json\n")[1].split("\n```")[0]
    assert json.loads(provenance) == MANIFEST.provenance


def test_card_without_an_evaluation() -> None:
    text = card(MANIFEST, None)
    assert "## Evaluation" not in text
    assert "histogram" not in text
    assert gate_text(MANIFEST) in text


def test_card_of_many_labels_counts_them() -> None:
    (facts,) = markdown_tables(card(replace(MANIFEST, labels=tuple(map(str, range(1000)))), None))
    assert ["labels", "1000"] in facts


def test_card_shows_its_pictures() -> None:
    assert "![ROC curve of the gate's score against each OOD set](roc.png)" in card(MANIFEST, EVALUATION, ["roc.png"])


def test_documents() -> None:
    assert list(documents(MANIFEST)) == ["card.md"]
    files = documents(MANIFEST, EVALUATION, {"roc.png": b"png"})
    assert sorted(files) == ["card.md", "evaluation.json", "roc.png"]
    assert json.loads(files["evaluation.json"]) == json.loads(json.dumps(EVALUATION.to_dict()))
    assert files["card.md"].decode() == card(MANIFEST, EVALUATION, ["roc.png"])


def test_the_table_fits_on_a_screen_with_the_longest_names() -> None:
    scores = {f"nan_react_knn{i}": Detection(*[0.9876] * 5) for i in range(2)}
    ood = {"tinyimagenet": unknown("x.tar", 10, 0.5, scores)}
    assert max(map(len, table(replace(EVALUATION, ood=ood)).splitlines())) <= 120


def test_comparison_has_a_row_for_each_set_and_bundle() -> None:
    other = replace(EVALUATION, score="msp")
    header, *rows = [
        line.strip("| ").split(" | ") for line in comparison({"a": EVALUATION, "b": other}, markdown=True).splitlines()
    ]
    assert [cell.strip() for cell in header][:4] == ["OOD set", "bundle", "rejected", "AUROC"]
    assert [[cell.strip() for cell in row[:4]] for row in rows[1:]] == [
        ["textures", "a (energy)", "87.50 86.5-88.5", "95.00 94.0-96.0"],
        ["textures", "b (msp)", "87.50 86.5-88.5", "91.00 90.0-92.0"],
        ["noise", "a (energy)", "98.00 97.0-99.0", "100.00 99.0-100.0"],
        ["noise", "b (msp)", "98.00 97.0-99.0", "81.00 80.0-82.0"],
    ]


def test_markdown_of_one_bundle_and_of_two() -> None:
    one, two = markdown({"a": EVALUATION}), markdown({"a": EVALUATION, "b": EVALUATION})
    assert "## Comparison" not in one
    assert [line for line in two.splitlines() if line.startswith("#")] == ["## Comparison", "## a", "## b"]
    assert markdown_tables(one) == [[HEADER, *ROWS]]
