"""Rows of cells as text: in columns, or as a markdown table."""

from __future__ import annotations

from collections.abc import Sequence

from export.metrics.intervals import Interval


def layout(rows: Sequence[Sequence[str]], markdown: bool = False) -> str:
    """Rows of cells, the first one the header, in columns that line up."""
    if markdown:
        rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if not markdown:
        return "\n".join(lines)
    cells = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    rule = "|".join("-" * (width + 2) for width in widths)
    return "\n".join([f"| {cells[0]} |", f"|{rule}|", *(f"| {line} |" for line in cells[1:])])


def percent(value: float, interval: Interval) -> str:
    """A share and its interval in percent: ``91.44 90.3-92.5``."""
    low, high = interval
    return f"{100 * value:.2f} {100 * low:.1f}-{100 * high:.1f}"
