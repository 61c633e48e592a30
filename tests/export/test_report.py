"""What people read: tables that can be read back, a picture that is one, a card that says what the gate promises."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from export.evaluation import Evaluation, InDistribution, OutOfDistribution
from export.metrics import Detection
from export.report import card, documents, gate_text, histogram, summary, table
from runtime.manifest import (
    Calibration,
    Choice,
    ClassPoint,
    Confidence,
    GateSpec,
    Manifest,
    Merged,
    MergeMethod,
    ModelSpec,
    OperatingPoint,
    OrderStatistics,
    PValueCurve,
    Task,
)
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
    gate=GateSpec("energy", 4.25, 0.05, 0.95, 1000, (0.9355, 0.9621), 0.0618),
    calibration=Calibration(1000, (1000,), {"msp": (0.5,), "energy": (4.25,)}),
)
EVALUATION = Evaluation(
    model="mine",
    sha256="abc",
    score="energy",
    threshold=4.25,
    alpha=0.05,
    id=InDistribution("val.tar@2/2", 500, 0.9123, 0.945, 0.952, (0.93, 0.968)),
    ood={
        "textures": OutOfDistribution(
            "dtd.tar",
            300,
            0.875,
            {"msp": Detection(0.91, 0.92, 0.93, 0.4, 0.45), "energy": Detection(0.95, 0.96, 0.97, 0.2, 0.25)},
        ),
        "noise": OutOfDistribution(
            "noise.npz",
            100,
            1.0,
            {"msp": Detection(0.81, 0.82, 0.83, 0.5, 0.55), "energy": Detection(1.0, 1.0, 1.0, 0.0, 0.0)},
        ),
    },
)
HEADER = ["OOD set", "score", "AUROC", "FPR95 (ID-positive)", "FPR95 (OOD-positive)", "AUPR-in", "AUPR-out"]
ROWS = [
    ["textures", "msp", "91.00", "40.00", "45.00", "92.00", "93.00"],
    ["textures", "energy *", "95.00", "20.00", "25.00", "96.00", "97.00"],
    ["noise", "msp", "81.00", "50.00", "55.00", "82.00", "83.00"],
    ["noise", "energy *", "100.00", "0.00", "0.00", "100.00", "100.00"],
]


def scores(seed: int, count: int = 100) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(5, 2, count).astype(np.float32)


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


def picture(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


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
    for part in ("val.tar@2/2: 500 images, 95.20 % accepted", "93.00 to 96.80", "accuracy: 91.23 %", "images: 94.50 %"):
        assert part in text
    assert "OOD textures: 300 images, 87.50 % rejected" in text
    assert "OOD noise: 100 images, 100.00 % rejected" in text


def test_summary_without_accuracy() -> None:
    known = replace(EVALUATION.id, accuracy=None, accuracy_accepted=None)
    assert "accuracy" not in summary(replace(EVALUATION, id=known))


def test_summary_of_a_multilabel_model() -> None:
    known = replace(EVALUATION.id, mean_average_precision=0.7654)
    assert "ID mean average precision: 76.54 %" in summary(replace(EVALUATION, id=known)).splitlines()
    assert "precision" not in summary(EVALUATION)


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
    assert "histogram.png" in text
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


def test_histogram_is_a_png() -> None:
    image = picture(histogram(MANIFEST, {"ID": scores(0), "far": scores(1) - 9}))
    assert image.format == "PNG"
    assert image.width > 500
    assert len(np.unique(np.asarray(image.convert("L")))) > 10


def test_histogram_is_the_same_each_time() -> None:
    sets = {"ID": scores(0), "far": scores(1)}
    assert histogram(MANIFEST, sets) == histogram(MANIFEST, sets)


@pytest.mark.parametrize(
    "sets",
    [
        {"ID": scores(0), "far": np.full(100, np.finfo(np.float32).min)},
        {"ID": scores(0), "far": np.full(100, -1e30, np.float32)},
        {"ID": scores(0, 1), "far": scores(1, 1)},
        {"ID": np.full(9, 4.25, np.float32), "far": np.full(9, 4.25, np.float32)},
    ],
    ids=["rejected as not finite", "far away", "one image each", "all on the threshold"],
)
def test_histogram_of_unusual_scores(sets: dict[str, npt.NDArray[np.float32]]) -> None:
    assert picture(histogram(MANIFEST, sets)).format == "PNG"


def test_documents() -> None:
    assert list(documents(MANIFEST)) == ["card.md"]
    files = documents(MANIFEST, EVALUATION, {"ID": scores(0), "noise": scores(1)})
    assert sorted(files) == ["card.md", "evaluation.json", "histogram.png"]
    assert json.loads(files["evaluation.json"]) == json.loads(json.dumps(EVALUATION.to_dict()))
    assert files["card.md"].decode() == card(MANIFEST, EVALUATION)


# --- what the gate is made of


def gate(others: dict[str, Any] | None = None, /, **changes: Any) -> Manifest:
    """The manifest with another gate, and other fields that go with it."""
    assert MANIFEST.gate is not None
    return replace(MANIFEST, gate=replace(MANIFEST.gate, **changes), **(others or {}))


def test_the_largest_rejection_rate_is_said() -> None:
    assert "the largest rejection rate compatible with it at 95 % is 6.18 %" in gate_text(MANIFEST)


def test_operating_points_and_those_left_out_are_said() -> None:
    text = gate_text(gate(operating_points=(OperatingPoint(0.1, 5.0, (0.8, 0.9), 0.2),)))
    assert "Operating points: alpha = 0.05, 0.1; 0.05 is the default." in text
    assert "Left out, for want of calibration images: 0.01 (needs 99 images)." in text


def test_thresholds_by_class_are_a_table_and_those_that_fell_back_are_named() -> None:
    point = ClassPoint(123, 3.5, (0.9, 0.98), 0.0875)
    calibration = Calibration(
        1000,
        (1000,),
        {"msp": (0.5,), "energy": (4.25,)},
        {LABELS[0]: OrderStatistics(123, (123,), (9.0,))},
    )
    manifest = gate({"calibration": calibration}, class_conditional=True, classes={LABELS[0]: point})
    (rows,) = markdown_tables(gate_text(manifest, markdown=True))
    assert rows[1:] == [["cat", "123", "3.5", "90.00 to 98.00 %", "8.75 %"]]
    text = gate_text(manifest)
    assert "reaches the threshold of its predicted class" in text
    assert "Fewer than 19 calibration images were predicted as dog, ship" in text
    assert "an image of any class is rejected with probability at most 0.1." in text


def test_the_choice_is_a_table() -> None:
    choice = Choice(
        250,
        {"noise": 100, "aux.tar": 200},
        {"noise": {"msp": 0.5, "energy": 0.9}, "aux.tar": {"msp": 0.75, "energy": 0.8}},
        {"0.1": 0.85, "1": 0.8},
    )
    manifest = replace(gate(choice=choice), score_parameters={"energy": {"temperature": 0.1}})
    text = gate_text(manifest, markdown=True)
    assert markdown_tables(text) == [
        [
            ["AUROC, %", "noise", "aux.tar", "mean"],
            ["msp", "50.00", "75.00", "62.50"],
            ["energy *", "90.00", "80.00", "85.00"],
        ]
    ]
    assert "compared on 250 other in-distribution images, against the outliers noise (100), aux.tar (200)" in text
    assert "temperature 0.1 was chosen with them, by mean AUROC (0.1: 85.00, 1: 80.00)" in text


@pytest.mark.parametrize(("method", "words"), [("min", "their minimum"), ("harmonic", "their harmonic mean")])
def test_a_merged_score_says_what_it_is_made_of(method: MergeMethod, words: str) -> None:
    curve = PValueCurve((1.0,), (1.0,), 1.0)
    others = {
        "scores": ("msp", "energy", "msp+energy"),
        "merged": {"msp+energy": Merged(method, 77, {"msp": curve, "energy": curve})},
        "calibration": Calibration(1000, (1000,), {"msp": (0.5,), "energy": (4.25,), "msp+energy": (1.0,)}),
    }
    manifest = gate(others, score="msp+energy")
    text = gate_text(manifest)
    assert f"`msp+energy` merges the p-values of msp, energy: {words}" in text
    assert "from 77 other in-distribution images" in text


@pytest.mark.parametrize(("task", "function"), [("multiclass", "softmax"), ("multilabel", "sigmoid")])
def test_the_confidence_says_how_far_off_it_was(task: Task, function: str) -> None:
    text = gate_text(replace(MANIFEST, task=task, confidence=Confidence(0.25, 900, 0.5, 0.0125)))
    assert f"is {function}(logits / T) with T = 0.25" in text
    assert "went from 50.00 % to 1.25 %" in text
