"""What people read: tables that can be read back, a picture that is one, a card that says what the gate promises."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from export.evaluation import Evaluation, InDistribution, OutOfDistribution
from export.metrics import Detection
from export.report import card, documents, gate_text, histogram, summary, table
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
