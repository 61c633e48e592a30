"""A comparison as tables, for a terminal and in markdown, and as a scatter plot."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from export.metrics.observation import gate_of
from export.parity.comparison import Artifact, Compared, Comparison
from export.parity.difference import QUANTILES, Difference, Flips, Spread
from export.report.table import layout

_POINTS = 5000  # of a larger set so many, evenly apart


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


def scatter(a: Artifact, b: Artifact, compared: Compared) -> bytes:
    """A's gate score to the right, B's upwards, with both thresholds; flips are where the lines part the points."""
    from matplotlib.figure import Figure  # takes half a second that only a plot should cost

    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.subplots()
    gates = [gate_of(each.manifest) for each in (a, b)]
    columns = [each.manifest.scores.index(gate.score) for each, gate in zip((a, b), gates, strict=True)]
    shown = []
    for name, pair in compared.observed.items():
        step = -(-len(pair[0]) // _POINTS)
        points = [observed.scores[::step, column] for observed, column in zip(pair, columns, strict=True)]
        shown.append(np.stack(points))
        axes.scatter(points[0], points[1], s=4, alpha=0.5, linewidths=0, label=f"{name} ({len(pair[0])})")
    low, high = np.quantile(np.concatenate(shown, axis=1), [0.001, 0.999], axis=1)
    if gates[0].score == gates[1].score:
        low, high = np.full(2, low.min()), np.full(2, high.max())
        axes.plot((low[0], high[0]), (low[0], high[0]), color="grey", linewidth=0.8, linestyle=":")
    margin = 0.03 * (high - low) + 1e-6
    axes.set_xlim(low[0] - margin[0], high[0] + margin[0])
    axes.set_ylim(low[1] - margin[1], high[1] + margin[1])
    if not gates[0].classes:
        axes.axvline(gates[0].threshold, color="black", linestyle="--", linewidth=0.8, label="thresholds")
    if not gates[1].classes:
        axes.axhline(gates[1].threshold, color="black", linestyle="--", linewidth=0.8)
    axes.set_xlabel(f"A, {a.name}: {gates[0].score}")
    axes.set_ylabel(f"B, {b.name}: {gates[1].score}")
    axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


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
                "-" if found.label_agreement is None else _percent(found.label_agreement),
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
        spreads = {**({} if found.logits is None else {"logits": found.logits}), **found.scores}
        rows += [[name, of, *_spread(spread)] for of, spread in spreads.items()]
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
