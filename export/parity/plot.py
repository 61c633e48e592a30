"""A scatter plot of two gates' scores of the same images, as PNG."""

from __future__ import annotations

import io

import numpy as np

from export.parity.comparison import Artifact, Compared

_POINTS = 5000  # of a larger set so many, evenly apart


def scatter(a: Artifact, b: Artifact, compared: Compared) -> bytes:
    """A's gate score to the right, B's upwards, with both thresholds; flips are where the lines part the points."""
    from matplotlib.figure import Figure  # takes half a second that only a plot should cost

    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.subplots()
    gates = [each.manifest.gate for each in (a, b)]
    assert gates[0] is not None
    assert gates[1] is not None
    columns = [each.manifest.scores.index(gate.score) for each, gate in zip((a, b), gates, strict=True) if gate]
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
