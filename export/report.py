"""What people read: tables of an evaluation, the model card."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from export.evaluation import Evaluation
from export.intervals import Interval
from export.plots import HISTOGRAM, RISK_COVERAGE, ROC
from runtime.bundle import CARD
from runtime.manifest import Manifest

EVALUATION = "evaluation.json"

_COLUMNS = (
    ("AUROC", "auroc"),
    ("FPR95 ID-pos.", "fpr95_id_positive"),
    ("FPR95 OOD-pos.", "fpr95_ood_positive"),
    ("AUPR-in", "aupr_in"),
    ("AUPR-out", "aupr_out"),
)
_PICTURES = {
    HISTOGRAM: "Histogram of the gate's score",
    ROC: "ROC curve of the gate's score against each OOD set",
    RISK_COVERAGE: "Risk against coverage",
}
_LEGEND = (
    "In percent, with 95 % intervals. `*` marks the gate's score. FPR95 (ID-positive) is the share of OOD images accepted "
    "where 95 % of ID images are; FPR95 (OOD-positive) is the share of ID images flagged where 95 % of OOD images are."
)


def documents(
    manifest: Manifest, evaluation: Evaluation | None = None, pictures: Mapping[str, bytes] | None = None
) -> dict[str, bytes]:
    """The files of a bundle that are for people, by name."""
    pictures = pictures or {}
    files = {CARD: card(manifest, evaluation, tuple(pictures)).encode(), **pictures}
    if evaluation:
        files[EVALUATION] = (json.dumps(evaluation.to_dict(), indent=1) + "\n").encode()
    return files


def table(evaluation: Evaluation, *, markdown: bool = False) -> str:
    """One row for each OOD set and score, in percent with intervals; the gate's score is marked."""
    rows = [["OOD set", "score", *(title for title, _ in _COLUMNS)]]
    for name, ood in evaluation.ood.items():
        for score in ood.scores:
            rows.append([name, f"{score} *" if score == evaluation.score else score, *_cells(evaluation, name, score)])
    return layout(rows, markdown)


def comparison(evaluations: Mapping[str, Evaluation], *, markdown: bool = False) -> str:
    """One row for each OOD set and bundle, by the bundle's own gate."""
    (first, *_) = evaluations.values()
    rows = [["OOD set", "bundle", "rejected", *(title for title, _ in _COLUMNS[:3])]]
    rows += [
        [
            name,
            f"{bundle} ({found.score})",
            _percent(found.ood[name].rejection, found.ood[name].rejection_interval),
            *_cells(found, name, found.score)[:3],
        ]
        for name in first.ood
        for bundle, found in evaluations.items()
    ]
    return layout(rows, markdown)


def markdown(evaluations: Mapping[str, Evaluation]) -> str:
    """A page of all tables, by bundle."""
    sections = []
    if len(evaluations) > 1:
        sections += ["## Comparison", _LEGEND, comparison(evaluations, markdown=True)]
    for bundle, found in evaluations.items():
        sections += [f"## {bundle}", *_figures(found)]
    return "\n\n".join(sections) + "\n"


def summary(evaluation: Evaluation) -> str:
    """The figures at the stored threshold and those of the classifier, a line each."""
    known = evaluation.id
    low, high = (100 * bound for bound in known.acceptance_expected)
    lines = [
        f"gate: {evaluation.score} >= {evaluation.threshold:.6g} (alpha = {evaluation.alpha})",
        f"ID {known.source}: {known.images} images, {_percent(known.acceptance, known.acceptance_interval)} % accepted "
        f"(its calibration promises {low:.2f} to {high:.2f})",
    ]
    if known.accuracy is not None and known.accuracy_interval:
        lines.append(f"ID accuracy: {_percent(known.accuracy, known.accuracy_interval)} %")
    if known.accuracy_accepted is not None and known.accuracy_accepted_interval:
        accepted = _percent(known.accuracy_accepted, known.accuracy_accepted_interval)
        lines.append(f"ID accuracy of accepted images: {accepted} %")
    for name, curve in known.risk_coverage.items():
        order = f"the gate's {evaluation.score}" if name == "score" else "confidence (largest softmax probability)"
        lines.append(f"AURC by {order}: {_percent(curve.aurc, curve.aurc_interval)} %")
    if precision := known.mean_average_precision:
        figure = _percent(precision.value, precision.interval)
        lines.append(f"ID mean average precision: {figure} % over {precision.labels} labels")
    for name, ood in evaluation.ood.items():
        rejected = _percent(ood.rejection, ood.rejection_interval)
        lines.append(f"OOD {name}: {ood.images} images, {rejected} % rejected")
    return "\n".join(lines)


def card(manifest: Manifest, evaluation: Evaluation | None = None, pictures: Sequence[str] = ()) -> str:
    """The model card in markdown, with the names of its pictures."""
    model, spec = manifest.model, manifest.input
    sections = [
        f"# {model.name}",
        f"A {manifest.task} image classifier that rejects what it does not know.",
        layout(
            [
                ["", ""],
                [
                    "architecture",
                    f"{model.arch}, {model.parameters:,} parameters, {model.features} penultimate features",
                ],
                ["training method", model.method],
                ["labels", ", ".join(manifest.labels) if len(manifest.labels) <= 20 else f"{len(manifest.labels)}"],
                ["input", f"{spec.height} x {spec.width} RGB, {spec.resize}, {spec.interpolation}"],
                ["scores", ", ".join(manifest.scores)],
            ],
            markdown=True,
        ),
        "## Gate",
        gate_text(manifest),
    ]
    if evaluation:
        sections += ["## Evaluation", *_figures(evaluation)]
        sections += [f"![{_PICTURES[name]}]({name})" for name in pictures]
    if manifest.provenance:
        sections += ["## Provenance", "```json\n" + json.dumps(manifest.provenance, indent=1) + "\n```"]
    return "\n\n".join(sections) + "\n"


def gate_text(manifest: Manifest) -> str:
    """What the gate promises, in a paragraph."""
    gate = manifest.gate
    if gate is None:
        return "Not calibrated: the file rejects everything. Run `python -m export.calibrate BUNDLE DIR|TAR`."
    low, high = gate.tpr_interval
    return (
        f"An image is accepted when `{gate.score} >= {gate.threshold:.6g}`. The threshold was calibrated on "
        f"{gate.n_calibration} in-distribution images by split conformal prediction: an image exchangeable with them is "
        f"rejected with probability at most {gate.alpha:g}. For this calibration set the acceptance rate realised on "
        f"such images lies between {100 * low:.2f} % and {100 * high:.2f} % with 95 % confidence. "
        "Nothing is promised for images of another source: recalibrate on yours."
    )


def _figures(evaluation: Evaluation) -> list[str]:
    """The sections of one evaluation in markdown."""
    lines = "\n".join(f"- {line}" for line in summary(evaluation).splitlines())
    return [lines, _LEGEND, table(evaluation, markdown=True)]


def _cells(evaluation: Evaluation, name: str, score: str) -> list[str]:
    figures, intervals = evaluation.ood[name].scores[score], evaluation.ood[name].intervals[score]
    return [_percent(getattr(figures, field), getattr(intervals, field)) for _, field in _COLUMNS]


def _percent(value: float, interval: Interval) -> str:
    """A share and its interval in percent: ``91.44 90.3-92.5``."""
    low, high = interval
    return f"{100 * value:.2f} {100 * low:.1f}-{100 * high:.1f}"


def layout(rows: Sequence[Sequence[str]], markdown: bool = False) -> str:
    """Rows of cells, the first one the header, in columns that line up."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if not markdown:
        return "\n".join(lines)
    cells = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    rule = "|".join("-" * (width + 2) for width in widths)
    return "\n".join([f"| {cells[0]} |", f"|{rule}|", *(f"| {line} |" for line in cells[1:])])
