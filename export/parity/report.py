"""A comparison as tables, for a terminal and in markdown."""

from __future__ import annotations

from collections.abc import Sequence

from export.parity.comparison import Comparison
from export.parity.difference import QUANTILES, Difference, Flips, Spread
from export.report.table import layout


def report(comparison: Comparison, *, markdown: bool = False) -> str:
    """All tables, a title above each."""
    sets = {"ID": comparison.known, **comparison.unknown}
    sections = [
        ("Decisions", _decisions(sets)),
        ("Absolute differences", _differences(sets)),
        ("At each one's own threshold", _figures(comparison)),
    ]
    heading = f"A = {comparison.a}, B = {comparison.b}"
    parts = [f"# {heading}" if markdown else heading]
    for title, rows in sections:
        parts += [f"## {title}" if markdown else title, layout(rows, markdown)]
    return "\n\n".join(parts) + "\n"


def _decisions(sets: dict[str, Difference]) -> list[list[str]]:
    rows = [
        [
            "set",
            "images",
            "same label",
            "flips",
            "A accepts, B rejects",
            "A rejects, B accepts",
            "with A's threshold",
            "with B's",
        ]
    ]
    for name, found in sets.items():
        rows.append(
            [
                f"{name} {found.source}",
                f"{found.images}",
                _percent(found.label_agreement),
                _flips(found.flips, found),
                f"{found.flips.newly_rejected}",
                f"{found.flips.newly_accepted}",
                _flips(found.flips_with_a_threshold, found),
                _flips(found.flips_with_b_threshold, found),
            ]
        )
    return rows


def _differences(sets: dict[str, Difference]) -> list[list[str]]:
    rows = [["set", "of", "mean", *(f"{100 * level:g} %" for level in QUANTILES), "max"]]
    for name, found in sets.items():
        rows += [[name, of, *_spread(spread)] for of, spread in {"logits": found.logits, **found.scores}.items()]
    return rows


def _figures(comparison: Comparison) -> list[list[str]]:
    rows: list[list[str]] = [["figure", "A", "B"]]

    def add(title: str, values: Sequence[float | None]) -> None:
        rows.append([title, *("-" if value is None else _percent(value) for value in values)])

    both = comparison.evaluations
    rows.append(["gate", *(f"{each.score} >= {each.threshold:.6g}" for each in both)])
    add("ID accuracy", [each.id.accuracy for each in both])
    add("ID accuracy of accepted images", [each.id.accuracy_accepted for each in both])
    add("ID accepted (TPR)", [each.id.acceptance for each in both])
    rows.append(["ID accepted, as calibration promises", *(_interval(each.id.acceptance_expected) for each in both)])
    for name in comparison.unknown:
        add(f"{name} rejected", [each.ood[name].rejection for each in both])
        gates = [each.ood[name].scores[each.score] for each in both]
        add(f"{name} AUROC", [gate.auroc for gate in gates])
        add(f"{name} FPR95", [gate.fpr95_id_positive for gate in gates])
    return rows


def _flips(flips: Flips | None, found: Difference) -> str:
    return "-" if flips is None else f"{flips.total} ({_percent(flips.total / found.images)})"


def _spread(spread: Spread) -> list[str]:
    return [f"{value:.3g}" for value in (spread.mean, *spread.quantiles, spread.max)]


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %"


def _interval(interval: tuple[float, float] | None) -> str:
    return "-" if interval is None else f"{100 * interval[0]:.2f} to {100 * interval[1]:.2f} %"
