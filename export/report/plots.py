"""Plots of an evaluation for the model card, as PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_curve

from export.metrics.evaluation import Evaluation
from export.metrics.observation import Observed
from export.metrics.selective import COVERAGES
from runtime.bundle import HISTOGRAM, RISK_COVERAGE, ROC
from runtime.manifest import Manifest

if TYPE_CHECKING:  # matplotlib takes half a second that only a plot should cost
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


Scores = npt.NDArray[np.float32]
_ORDERS = {"confidence": "by confidence", "score": "by the gate's score"}


def pictures(
    manifest: Manifest, evaluation: Evaluation, known: Observed, unknown: Mapping[str, Observed]
) -> dict[str, bytes]:
    """All plots of an evaluation, by file name."""
    column = manifest.scores.index(evaluation.score)
    scores = {name: observed.scores[:, column] for name, observed in {"ID": known, **unknown}.items()}
    plots = {HISTOGRAM: histogram(evaluation, scores)}
    if evaluation.ood:
        plots[ROC] = roc(evaluation, scores)
    if evaluation.id.risk_coverage:
        plots[RISK_COVERAGE] = risk_coverage(evaluation)
    return plots


def histogram(evaluation: Evaluation, scores: Mapping[str, Scores]) -> bytes:
    """The density of the gate's score for each set, that of in-distribution images as ``ID``, with the threshold."""
    pooled = np.concatenate(list(scores.values()))
    low, high = np.quantile(pooled, [0.002, 0.998])
    low, high = min(low, evaluation.threshold), max(high, evaluation.threshold)
    margin = 0.0 if low < high else 1e-3 * max(1.0, abs(low))  # scores that are all equal still need bins
    edges = np.linspace(low - margin, high + margin, 61)
    figure, axes = _figure(evaluation, 8, 4)
    for name, values in scores.items():
        style: dict[str, Any] = {"histtype": "step", "linewidth": 1.6}
        if name == "ID":
            style = {"histtype": "stepfilled", "alpha": 0.35}
        clipped = np.clip(values, edges[0], edges[-1])
        axes.hist(clipped, bins=edges.tolist(), density=True, label=f"{name} ({len(values)})", **style)
    axes.axvline(evaluation.threshold, color="black", linestyle="--", label="threshold")
    axes.set_xlabel(f"{evaluation.score}  (higher is more in-distribution; left of the threshold is rejected)")
    axes.set_ylabel("density")
    return _png(figure, axes)


def roc(evaluation: Evaluation, scores: Mapping[str, Scores]) -> bytes:
    """ID images accepted against OOD images accepted, a curve for each OOD set, with the stored threshold on it."""
    figure, axes = _figure(evaluation, 5, 5)
    known = scores["ID"]
    for name, values in scores.items():
        if name == "ID":
            continue
        truth = np.concatenate([np.ones(len(known)), np.zeros(len(values))])
        accepted, kept, _ = roc_curve(truth, np.concatenate([known, values]))
        auroc = evaluation.ood[name].scores[evaluation.score].auroc
        (line,) = axes.plot(accepted, kept, label=f"{name}: AUROC {100 * auroc:.2f}")
        point = (1 - evaluation.ood[name].rejection, evaluation.id.acceptance)
        axes.plot(*point, marker="o", color=line.get_color())
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
    axes.set_xlabel(f"OOD images accepted by {evaluation.score}  (dots: the stored threshold)")
    axes.set_ylabel("ID images accepted")
    return _png(figure, axes)


def risk_coverage(evaluation: Evaluation) -> bytes:
    """Errors among the first images to be answered against their share."""
    figure, axes = _figure(evaluation, 6, 4)
    for name, curve in evaluation.id.risk_coverage.items():
        axes.plot(COVERAGES, curve.risk, label=f"{_ORDERS[name]}: AURC {100 * curve.aurc:.2f} %")
    axes.axvline(evaluation.id.acceptance, color="black", linestyle="--", label="accepted at the threshold")
    axes.set_xlabel("coverage: share of ID images answered")
    axes.set_ylabel("risk: share of these answered wrong")
    return _png(figure, axes)


def _figure(evaluation: Evaluation, width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.set_title(evaluation.model)
    return figure, axes


def _png(figure: Figure, axes: Axes) -> bytes:
    axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()
