"""Tables of an evaluation, which can be read back."""

from __future__ import annotations

from dataclasses import replace

from export.metrics.detection import Detection
from export.metrics.multilabel import MeanAveragePrecision
from export.report.evaluation import comparison, markdown, summary, table
from export.report.table import layout
from runtime.manifest import ErrorBound
from tests.export.figures import EVALUATION, HEADER, ROWS, markdown_tables, unknown


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


def test_summary_of_a_bound_on_the_error() -> None:
    known = replace(EVALUATION.id, uncertain=0.0625, acceptance_expected=None)
    text = summary(replace(EVALUATION, id=known, max_error=ErrorBound(0.02, 0.95, "confidence", 1250)))
    assert "95.20 94.2-96.2 % accepted, 6.25 % rejected as uncertain" in text
    assert (
        "ID error of accepted images: 5.50 4.5-6.5 %, at a coverage of 95.20 % (promised: at most 2 % with 95 % confidence)"
    ) in text


def test_summary_without_accuracy() -> None:
    known = replace(EVALUATION.id, accuracy=None, accuracy_accepted=None, risk_coverage={})
    text = summary(replace(EVALUATION, id=known))
    assert "accuracy" not in text
    assert "AURC" not in text


def test_summary_of_a_multilabel_model() -> None:
    known = replace(EVALUATION.id, mean_average_precision=MeanAveragePrecision(0.7, (0.6, 0.8), 12))
    assert "ID mean average precision: 70.00 60.0-80.0 % over 12 labels" in summary(replace(EVALUATION, id=known))


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


def test_a_bar_in_a_name_does_not_break_a_markdown_table() -> None:
    assert layout([["a|b", "c"], ["1", "2"]], markdown=True).splitlines()[0] == r"| a\|b | c |"
    assert layout([["a|b", "c"]]) == "a|b  c"
