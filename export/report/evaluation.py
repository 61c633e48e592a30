"""Tables of an evaluation, for a terminal and in markdown."""

from __future__ import annotations

from collections.abc import Mapping

from export.metrics.evaluation import Evaluation
from export.report.leaderboard import leaderboard_lines, leaderboard_sections, sets_table
from export.report.shift import full_spectrum_table, shifted_lines, shifted_sections, shifted_table
from export.report.table import layout, percent
from runtime.manifest import promise

_COLUMNS = (
    ("AUROC", "auroc"),
    ("FPR95 ID-pos.", "fpr95_id_positive"),
    ("FPR95 OOD-pos.", "fpr95_ood_positive"),
    ("AUPR-in", "aupr_in"),
    ("AUPR-out", "aupr_out"),
)
_LEGEND = (
    "In percent, with 95 % intervals. `*` marks the gate's score. FPR95 (ID-positive) is the share of OOD images accepted "
    "where 95 % of ID images are; FPR95 (OOD-positive) is the share of ID images flagged where 95 % of OOD images are."
)


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
            percent(found.ood[name].rejection, found.ood[name].rejection_interval),
            *_cells(found, name, found.score)[:3],
        ]
        for name in first.ood
        for bundle, found in evaluations.items()
    ]
    return layout(rows, markdown)


def markdown(evaluations: Mapping[str, Evaluation]) -> str:
    """A page of all tables, by bundle."""
    parts = []
    if len(evaluations) > 1 and next(iter(evaluations.values())).ood:
        parts += ["## Comparison", _LEGEND, comparison(evaluations, markdown=True)]
    for bundle, found in evaluations.items():
        parts += [f"## {bundle}", *sections(found)]
    return "\n\n".join(parts) + "\n"


def summary(evaluation: Evaluation) -> str:
    """The figures at the stored threshold and those of the classifier, a line each."""
    known = evaluation.id
    accepted = f"{percent(known.acceptance, known.acceptance_interval)} % accepted"
    if known.uncertain is not None:
        accepted += f", {100 * known.uncertain:.2f} % rejected as uncertain"
    if known.acceptance_expected:
        low, high = (100 * bound for bound in known.acceptance_expected)
        accepted += f" (its calibration promises {low:.2f} to {high:.2f})"
    lines = [
        f"gate: {evaluation.score} >= {evaluation.threshold:.6g} (alpha = {evaluation.alpha})",
        f"ID {known.source}: {known.images} images, {accepted}",
    ]
    if known.accuracy is not None and known.accuracy_interval:
        lines.append(f"ID accuracy: {percent(known.accuracy, known.accuracy_interval)} %")
    if known.accuracy_accepted is not None and known.accuracy_accepted_interval:
        accepted = percent(known.accuracy_accepted, known.accuracy_accepted_interval)
        lines.append(f"ID accuracy of accepted images: {accepted} %")
        if bound := evaluation.max_error:
            low, high = known.accuracy_accepted_interval
            error = percent(1 - known.accuracy_accepted, (1 - high, 1 - low))
            lines.append(
                f"ID error of accepted images: {error} %, at a coverage of {100 * known.acceptance:.2f} % (promised: at most "
                f"{promise.percent(bound.rate)} with {promise.percent(bound.confidence)} confidence)"
            )
    for name, curve in known.risk_coverage.items():
        order = f"the gate's {evaluation.score}" if name == "score" else "confidence (largest softmax probability)"
        lines.append(f"AURC by {order}: {percent(curve.aurc, curve.aurc_interval)} %")
    if precision := known.mean_average_precision:
        figure = percent(precision.value, precision.interval)
        lines.append(f"ID mean average precision: {figure} % over {precision.labels} labels")
    for name, ood in evaluation.ood.items():
        rejected = percent(ood.rejection, ood.rejection_interval)
        lines.append(f"OOD {name}: {ood.images} images, {rejected} % rejected")
    return "\n".join([*lines, *shifted_lines(evaluation)])


def tables(evaluation: Evaluation) -> str:
    """All tables of one evaluation, for a terminal."""
    parts = [table(evaluation) if evaluation.ood else "", shifted_table(evaluation), full_spectrum_table(evaluation)]
    parts += [sets_table(evaluation), leaderboard_lines(evaluation)]
    return "\n\n".join(filter(None, parts))


def sections(evaluation: Evaluation) -> list[str]:
    """The sections of one evaluation in markdown."""
    lines = "\n".join(f"- {line}" for line in summary(evaluation).splitlines())
    parts = [lines, *([_LEGEND, table(evaluation, markdown=True)] if evaluation.ood else [])]
    return [*parts, *shifted_sections(evaluation), *leaderboard_sections(evaluation)]


def _cells(evaluation: Evaluation, name: str, score: str) -> list[str]:
    figures, intervals = evaluation.ood[name].scores[score], evaluation.ood[name].intervals[score]
    return [percent(getattr(figures, field), getattr(intervals, field)) for _, field in _COLUMNS]
