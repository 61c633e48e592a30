"""What is said of shifted images."""

from __future__ import annotations

from dataclasses import replace

from export.metrics.detection import Detection
from export.metrics.shift import Shifted
from export.report.evaluation import sections, summary, tables
from export.report.shift import full_spectrum_table, shifted_table
from tests.export.figures import EVALUATION, at, markdown_tables

BLUR = Shifted(
    "blur.tar", 200, 0.83, at(0.83), 0.88, at(0.88), 0.96, at(0.96), 0.8636, at(0.8636), needless=True
)  # fmt: skip
NIGHT = Shifted("night.tar", 90, 0.4, at(0.4), None, None, None, None, None, None, needless=None)
FIGURES = {"msp": Detection(0.5, 0, 0, 0.6, 0.7), "energy": Detection(0.8, 0, 0, 0.3, 0.4)}
FOUND = replace(EVALUATION, shifted={"blur": BLUR, "night": NIGHT}, full_spectrum={"textures": FIGURES})


def test_a_gate_that_rejects_what_the_model_knows_is_not_wanted() -> None:
    lines = [line for line in summary(FOUND).splitlines() if line.startswith("shifted ")]
    assert lines[0] == "shifted blur: 200 images of known classes, 83.00 82.0-84.0 % rejected"
    assert lines[1].startswith("shifted blur: NOT WANTED: the gate takes most")
    assert "88.00 % of them right (91.23 % of the ID images)" in lines[1]
    assert lines[2:] == ["shifted night: 90 images of known classes, 40.00 39.0-41.0 % rejected"]


def test_images_that_are_rejected_as_uncertain() -> None:
    found = replace(EVALUATION, shifted={"night": replace(NIGHT, uncertain=0.15)})
    assert "40.00 39.0-41.0 % rejected, 15.00 % as uncertain" in summary(found)


def test_tables_can_be_read_back() -> None:
    assert markdown_tables(shifted_table(FOUND, markdown=True)) == [
        [
            ["shifted set", "images", "rejected", "accuracy", "of accepted", "of rejected"],
            ["blur", "200", "83.00 82.0-84.0", "88.00 87.0-89.0", "96.00 95.0-97.0", "86.36 85.4-87.4"],
            ["night", "90", "40.00 39.0-41.0", "-", "-", "-"],
        ]
    ]
    assert markdown_tables(full_spectrum_table(FOUND, markdown=True)) == [
        [
            ["OOD set, full spectrum", "score", "AUROC", "FPR95 ID-pos.", "FPR95 OOD-pos."],
            ["textures", "energy *", "80.00", "30.00", "40.00"],
        ]
    ]


def test_nothing_is_said_where_there_were_none() -> None:
    assert "shifted" not in summary(EVALUATION).lower() + tables(EVALUATION).lower()
    assert "hifted" not in "".join(sections(EVALUATION))


def test_the_card_says_all_of_it() -> None:
    text = "\n".join(sections(FOUND))
    for part in ("NOT WANTED", shifted_table(FOUND, markdown=True), full_spectrum_table(FOUND, markdown=True)):
        assert part in text
