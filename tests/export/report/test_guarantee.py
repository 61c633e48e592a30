"""What is said of a gate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from export.images.leakage import record
from export.report.guarantee import gate_text
from runtime.manifest import (
    Calibration,
    Choice,
    ClassPoint,
    Confidence,
    ErrorBound,
    LabelSet,
    Manifest,
    Merged,
    MergeMethod,
    OperatingPoint,
    OrderStatistics,
    PValueCurve,
    Selection,
    Task,
)
from tests.export.figures import MANIFEST, UNCALIBRATED, markdown_tables
from tests.small import LABELS
from tests.train.sets import noise


def test_gate_text_says_what_is_promised() -> None:
    text = gate_text(MANIFEST)
    for part in ("`energy >= 4.25`", "1000 in-distribution images", "at most 0.05", "93.55 %", "96.21 %"):
        assert part in text


def test_gate_text_before_calibration() -> None:
    assert gate_text(UNCALIBRATED).startswith("Not calibrated: the file rejects everything.")


# --- what the gate is made of


def gate(others: dict[str, Any] | None = None, /, **changes: Any) -> Manifest:
    """The manifest with another gate, and other fields that go with it."""
    assert MANIFEST.gate is not None
    return replace(MANIFEST, gate=replace(MANIFEST.gate, **changes), **(others or {}))


def test_the_largest_rejection_rate_is_said() -> None:
    assert "the largest rejection rate compatible with it at 95 % is 6.18 %" in gate_text(MANIFEST)


def test_the_promise_is_a_sentence_to_quote() -> None:
    assert (
        "Promise: Calibrated on 1,000 in-distribution images: an image like them is rejected as out of distribution with "
        "probability at most 5 %, on average over calibration sets."
    ) in gate_text(MANIFEST)
    pac = gate(guarantee="pac", confidence=0.95)
    assert (
        "Promise: With 95 % confidence over the draw of its 1,000 calibration images, this gate rejects at most 5 % of "
        "in-distribution images as out of distribution."
    ) in gate_text(pac)
    assert "by this very gate, with 95 % confidence" in gate_text(pac)
    by_class = gate_text(gate(guarantee="pac", confidence=0.95, class_conditional=True))
    assert "for each such class by itself" in by_class
    assert "in each class by itself, not in all of them at once" in by_class
    assert (
        "of any class is rejected" not in by_class
    )  # what Bonferroni says of probabilities says nothing of confidence


def test_a_bound_on_the_error_and_label_sets_are_tables() -> None:
    """The risk and the coverage that the test images measured, at each operating point."""
    calibration = Calibration(1000, (1000,), {"msp": (0.5,), "energy": (4.25,)})
    sets = (LabelSet(0.9, 0.25, 1100, 1.0625), LabelSet(0.95, 0.125, 1100, 1.25))
    manifest = gate(
        calibration=calibration,
        max_error=ErrorBound(0.02, 0.95, "msp", 1250),
        selection=Selection(0.9333, 1000, 10, 0.0169),
        sets=sets,
        operating_points=(OperatingPoint(0.1, 5.0, (0.8, 0.9), 0.2, {}, Selection(0.875, 800, 8, 0.018), sets[:1]),),
    )
    text = gate_text(manifest, markdown=True)
    assert "0.05 is the default. Left out, as no threshold there keeps the error of accepted images: 0.01.\n" in text
    assert "An image is taken for known when `energy >= 4.25`." in text
    assert "at most 0.02, with 95 % confidence over draws of the 1250 labelled images" in text
    assert "at most 2 % of the in-distribution images that it accepts are classified wrong." in text
    bound, covered = markdown_tables(text)
    assert bound == [
        ["alpha", "msp", "known images accepted", "wrong among them", "at most, 95 %"],
        ["0.05", ">= 0.9333", "1000 of 1250 (80.00 %)", "10 (1.00 %)", "1.69 %"],
        ["0.1", ">= 0.875", "800 of 1250 (64.00 %)", "8 (1.00 %)", "1.80 %"],
    ]
    assert covered == [
        ["alpha", "coverage", "probability", "images", "labels a set"],
        ["0.05", "0.9", ">= 0.25", "1100", "1.06"],
        ["0.05", "0.95", ">= 0.125", "1100", "1.25"],
        ["0.1", "0.9", ">= 0.25", "1100", "1.06"],
    ]


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
    manifest = gate(calibration=calibration, class_conditional=True, classes={LABELS[0]: point})
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


@pytest.mark.parametrize(
    ("method", "words"),
    [("min", "their minimum"), ("harmonic", "their harmonic mean"), ("fisher", "the sum of their logarithms")],
)
def test_a_merged_score_says_what_it_is_made_of(method: MergeMethod, words: str) -> None:
    curve = PValueCurve((1.0,), (1.0,), 1.0)
    others = {
        "scores": ("msp", "energy", "msp+energy"),
        "merged": {"msp+energy": Merged(method, 77, {"msp": curve, "energy": curve})},
    }
    calibration = Calibration(1000, (1000,), {"msp": (0.5,), "energy": (4.25,), "msp+energy": (1.0,)})
    manifest = gate(others, score="msp+energy", calibration=calibration)
    text = gate_text(manifest)
    assert f"`msp+energy` merges the p-values of msp, energy: {words}" in text
    assert "from 77 other in-distribution images" in text


@pytest.mark.parametrize(("task", "function"), [("multiclass", "softmax"), ("multilabel", "sigmoid")])
def test_the_confidence_says_how_far_off_it_was(task: Task, function: str) -> None:
    text = gate_text(replace(MANIFEST, task=task, confidence=Confidence(0.25, 900, 0.5, 0.0125)))
    assert f"is {function}(logits / T) with T = 0.25" in text
    assert "went from 50.00 % to 1.25 %" in text


@pytest.mark.parametrize(
    ("confidence", "words"),
    [
        (Confidence(2.0, 900, 0.05, 0.01), "on the same images, which set T, so that it is larger on new ones"),
        (Confidence(2.0, 900, 0.05, 0.01, held_out=True), "by the temperature that the other half of them sets"),
        (
            Confidence(1.0, 900, 0.05, 0.05, held_out=True),
            "softmax(logits), with an expected calibration error of 5.00 %",
        ),
    ],
)
def test_the_confidence_says_which_images_its_error_is_of(confidence: Confidence, words: str) -> None:
    assert words in gate_text(replace(MANIFEST, confidence=confidence))


def test_ties_at_the_threshold_take_the_upper_end_of_the_interval() -> None:
    """Ties elsewhere do not."""
    tied = Calibration(1000, (49, 50, 51, 1000), {"msp": (0.1, 0.2, 0.3, 0.5), "energy": (4.25, 4.25, 5.0, 6.0)})
    elsewhere = Calibration(1000, (49, 50, 51, 1000), {"msp": (0.1, 0.2, 0.3, 0.5), "energy": (4.0, 4.25, 6.0, 6.0)})
    text = gate_text(gate(calibration=tied))
    assert "lies above 93.55 %, and may be 100 %, as several calibration scores are the threshold itself" in text
    assert "96.21" not in text
    assert "lies between 93.55 % and 96.21 % with 95 % confidence" in gate_text(gate(calibration=elsewhere))


def test_ties_at_the_threshold_of_a_class_are_said() -> None:
    point = ClassPoint(123, 3.5, (0.9, 0.98), 0.0875)
    statistics = OrderStatistics(123, (6, 7, 123), (3.5, 3.5, 9.0))
    calibration = Calibration(1000, (1000,), {"msp": (0.5,), "energy": (4.25,)}, {LABELS[0]: statistics})
    text = gate_text(gate(calibration=calibration, class_conditional=True, classes={LABELS[0]: point}))
    assert "above 90.00 %, scores are tied" in text


@pytest.mark.parametrize(("validation", "said"), [("val.tar@1/2", True), ("val.tar@2/2", False)])
def test_settings_that_the_calibration_images_chose_are_said(validation: str, said: bool) -> None:
    manifest = record(MANIFEST, "calibration", "/data/val.tar@1/2", noise(20))
    manifest = replace(manifest, provenance={"training": {"sources": {"val": validation}}})
    assert ("gave the validation figure of every epoch too" in gate_text(manifest)) == said
