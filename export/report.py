"""What people read: tables of an evaluation, the histogram of the gate's score, the model card."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from export.evaluation import Evaluation
from runtime.bundle import CARD
from runtime.manifest import Manifest

EVALUATION, HISTOGRAM = "evaluation.json", "histogram.png"

_COLUMNS = (
    ("AUROC", "auroc"),
    ("FPR95 (ID-positive)", "fpr95_id_positive"),
    ("FPR95 (OOD-positive)", "fpr95_ood_positive"),
    ("AUPR-in", "aupr_in"),
    ("AUPR-out", "aupr_out"),
)


def documents(
    manifest: Manifest,
    evaluation: Evaluation | None = None,
    histograms: Mapping[str, npt.NDArray[np.float32]] | None = None,
) -> dict[str, bytes]:
    """The files of a bundle that are for people, by name."""
    files = {CARD: card(manifest, evaluation).encode()}
    if evaluation and histograms:
        files[EVALUATION] = (json.dumps(evaluation.to_dict(), indent=1) + "\n").encode()
        files[HISTOGRAM] = histogram(manifest, histograms)
    return files


def table(evaluation: Evaluation, *, markdown: bool = False) -> str:
    """One row for each OOD set and score, in percent; the gate's score is marked."""
    rows = [["OOD set", "score", *(title for title, _ in _COLUMNS)]]
    for name, ood in evaluation.ood.items():
        for score, figures in ood.scores.items():
            marked = f"{score} *" if score == evaluation.score else score
            rows.append([name, marked, *(f"{100 * getattr(figures, field):.2f}" for _, field in _COLUMNS)])
    return _layout(rows, markdown)


def summary(evaluation: Evaluation) -> str:
    """The figures at the stored threshold, a line each."""
    known = evaluation.id
    low, high = (100 * bound for bound in known.acceptance_interval)
    lines = [
        f"gate: {evaluation.score} >= {evaluation.threshold:.6g} (alpha = {evaluation.alpha})",
        f"ID {known.source}: {known.images} images, {100 * known.acceptance:.2f} % accepted "
        f"(95 % binomial interval around the target: {low:.2f} to {high:.2f})",
    ]
    if known.accuracy is not None:
        lines.append(f"ID accuracy: {100 * known.accuracy:.2f} %")
    if known.accuracy_accepted is not None:
        lines.append(f"ID accuracy of accepted images: {100 * known.accuracy_accepted:.2f} %")
    if known.mean_average_precision is not None:
        lines.append(f"ID mean average precision: {100 * known.mean_average_precision:.2f} %")
    for name, ood in evaluation.ood.items():
        lines.append(f"OOD {name}: {ood.images} images, {100 * ood.rejection:.2f} % rejected")
    return "\n".join(lines)


def histogram(manifest: Manifest, scores: Mapping[str, npt.NDArray[np.float32]]) -> bytes:
    """PNG of the gate score's density for each set, with the threshold."""
    from matplotlib.figure import Figure  # half a second that only a plot should cost

    assert manifest.gate is not None
    pooled = np.concatenate(list(scores.values()))
    low, high = np.quantile(pooled, [0.002, 0.998])
    low, high = min(low, manifest.gate.threshold), max(high, manifest.gate.threshold)
    margin = 0.0 if low < high else 1e-3 * max(1.0, abs(low))  # scores that are all equal still need bins
    edges = np.linspace(low - margin, high + margin, 61)
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for name, values in scores.items():
        style: dict[str, Any] = {"histtype": "step", "linewidth": 1.6}
        if name == "ID":
            style = {"histtype": "stepfilled", "alpha": 0.35}
        axes.hist(
            np.clip(values, edges[0], edges[-1]),
            bins=edges.tolist(),
            density=True,
            label=f"{name} ({len(values)})",
            **style,
        )
    axes.axvline(manifest.gate.threshold, color="black", linestyle="--", label="threshold")
    axes.set_xlabel(f"{manifest.gate.score}  (higher is more in-distribution; left of the threshold is rejected)")
    axes.set_ylabel("density")
    axes.set_title(manifest.model.name)
    axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def card(manifest: Manifest, evaluation: Evaluation | None) -> str:
    """The model card in markdown."""
    model, spec = manifest.model, manifest.input
    sections = [
        f"# {model.name}",
        f"A {manifest.task} image classifier that rejects what it does not know.",
        _layout(
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
        sections += [
            "## Evaluation",
            "\n".join(f"- {line}" for line in summary(evaluation).splitlines()),
            f"![Histogram of the gate's score]({HISTOGRAM})",
            "In percent. `*` marks the gate's score. FPR95 (ID-positive) is the share of OOD images accepted where 95 % of "
            "ID images are; FPR95 (OOD-positive) is the share of ID images flagged where 95 % of OOD images are.",
            table(evaluation, markdown=True),
        ]
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


def _layout(rows: Sequence[Sequence[str]], markdown: bool) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if not markdown:
        return "\n".join(lines)
    cells = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    rule = "|".join("-" * (width + 2) for width in widths)
    return "\n".join([f"| {cells[0]} |", f"|{rule}|", *(f"| {line} |" for line in cells[1:])])
