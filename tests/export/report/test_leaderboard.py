"""Lines beside those of a leaderboard, and what marks one as incomplete."""

from __future__ import annotations

from dataclasses import replace

import pytest

from export.metrics.leaderboard import Leaderboard, Line, Mean
from export.report.leaderboard import leaderboard_lines, leaderboard_sections, sets_table
from tests.export.figures import EVALUATION, markdown_tables

NEAR, FAR = Mean(0.8123, 0.5, ("noise",)), Mean(0.95, 0.25, ("textures",))
BOARD = Leaderboard(
    protocol="openood-v1.5-cifar10",
    arch="resnet18",
    training="cross-entropy",
    outliers=False,
    near=("noise", "tin"),
    far=("textures",),
    missing={},
    lines=(
        Line("msp", False, NEAR, FAR, 0.9123),
        Line("energy", False, NEAR, FAR, 0.9123),
        Line("ours", True, NEAR, None, None),
    ),
)


def rows(missing: dict[str, str]) -> list[list[str]]:
    (table,) = markdown_tables(leaderboard_lines(replace(EVALUATION, leaderboard=replace(BOARD, missing=missing))))
    return table[1:]


def test_lines() -> None:
    assert rows({}) == [
        ["cross-entropy", "MSP (msp)", "81.23", "95.00", "91.23", "✗", "resnet18", "oodgate", "50.00", "25.00"],
        ["cross-entropy", "EBO (energy) *", "81.23", "95.00", "91.23", "✗", "resnet18", "oodgate", "50.00", "25.00"],
        ["cross-entropy", "ours", "81.23", "-", "-", "✗", "resnet18", "oodgate, full spectrum", "50.00", "-"],
    ]


@pytest.mark.parametrize(
    ("missing", "near", "far", "said"),
    [
        ("tin", True, False, "oodgate, incomplete: tin"),
        ("textures", False, True, "oodgate, incomplete: textures"),
        ("ID", True, True, "oodgate, incomplete: ID"),  # every figure is against the known images
        ("blurred", False, False, "oodgate"),  # of no matter but to the full spectrum
    ],
)
def test_a_figure_is_marked_for_what_it_depends_on(missing: str, near: bool, far: bool, said: str) -> None:
    row = rows({missing: "2 of its 27 images"})[1]
    assert [row[2].endswith("(incomplete)"), row[3].endswith("(incomplete)")] == [near, far]
    assert [row[8].endswith("(incomplete)"), row[9].endswith("(incomplete)")] == [near, far]
    assert row[7] == said
    assert row[4].endswith("(incomplete)") == (missing == "ID")
    board = replace(BOARD, near=("noise",), missing={missing: "2 of its 27 images"})
    (table,) = markdown_tables(sets_table(replace(EVALUATION, leaderboard=board), markdown=True))
    means = {row[0]: row[3].endswith("(incomplete)") for row in table if row[1] == "mean"}
    assert means == {"near": near and missing != "tin", "far": far}
    assert (table[-1][0] == "ID") == (missing == "ID")


def test_full_spectrum_depends_on_the_shifted_images() -> None:
    row = rows({"blurred": "all of it"})[2]
    assert row[2] == "81.23 (incomplete)"
    assert row[7] == "oodgate, full spectrum, incomplete: blurred"


def test_sets() -> None:
    board = replace(BOARD, missing={"tin": "all of it", "textures": "3 of its 303 images"})
    assert markdown_tables(sets_table(replace(EVALUATION, leaderboard=board), markdown=True)) == [
        [
            ["split", "OOD set", "images", "AUROC", "FPR@95", "missing"],
            ["near", "noise", "100", "100.00", "1.00", ""],
            ["near", "tin", "", "", "", "all of it"],
            ["near", "mean", "", "81.23 (incomplete)", "50.00 (incomplete)", ""],
            ["far", "textures", "300", "95.00", "25.00", "3 of its 303 images"],
            ["far", "mean", "", "95.00 (incomplete)", "25.00 (incomplete)", ""],
        ]
    ]


def test_without_a_protocol() -> None:
    assert leaderboard_lines(EVALUATION) == sets_table(EVALUATION) == ""
    assert leaderboard_sections(EVALUATION) == []
