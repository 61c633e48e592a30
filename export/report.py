"""What people read: tables of an evaluation, the histogram of the gate's score, the model card."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from export.calibration import ALPHAS
from export.evaluation import Evaluation
from runtime import conformal
from runtime.bundle import CARD
from runtime.manifest import Choice, Confidence, GateSpec, Manifest, Task

EVALUATION, HISTOGRAM = "evaluation.json", "histogram.png"
FIGURES = (EVALUATION, HISTOGRAM)  # what an evaluation adds to a bundle

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
        gate_text(manifest, markdown=True),
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


def gate_text(manifest: Manifest, *, markdown: bool = False) -> str:
    """What the gate promises and how it was made, in paragraphs and tables."""
    gate = manifest.gate
    if gate is None:
        return "Not calibrated: the file rejects everything. Run `python -m export.calibrate BUNDLE DIR|TAR`."
    paragraphs = [_promise(gate), _operating_points(gate)]
    if gate.class_conditional:
        paragraphs += _classes_text(gate, manifest.labels, markdown)
    if gate.score in manifest.merged:
        merged = manifest.merged[gate.score]
        how = "their minimum, times their number" if merged.method == "min" else "their harmonic mean"
        paragraphs.append(
            f"`{gate.score}` merges the p-values of {', '.join(merged.parts)}: {how}. They come from {merged.n} other "
            "in-distribution images."
        )
    if gate.choice:
        paragraphs += _choice_text(gate.choice, gate.score, manifest.score_parameters, markdown)
    if manifest.confidence:
        paragraphs.append(_confidence_text(manifest.confidence, manifest.task))
    return "\n\n".join(paragraphs)


def _promise(gate: GateSpec) -> str:
    low, high = gate.tpr_interval
    if gate.class_conditional:
        return (
            f"An image is accepted when `{gate.score}` reaches the threshold of its predicted class. The thresholds were "
            f"calibrated on {gate.n_calibration} in-distribution images by split conformal prediction within each "
            "predicted class: an image exchangeable with them that is predicted as one of the classes below is rejected "
            f"with probability at most {gate.alpha:g}. "
            "Nothing is promised for images of another source: recalibrate on yours."
        )
    return (
        f"An image is accepted when `{gate.score} >= {gate.threshold:.6g}`. The threshold was calibrated on "
        f"{gate.n_calibration} in-distribution images by split conformal prediction: an image exchangeable with them is "
        f"rejected with probability at most {gate.alpha:g}. For this calibration set the acceptance rate realised on "
        f"such images lies between {100 * low:.2f} % and {100 * high:.2f} % with 95 % confidence; the largest rejection "
        f"rate compatible with it at 95 % is {100 * gate.max_rejection:.2f} %. "
        "Nothing is promised for images of another source: recalibrate on yours."
    )


def _operating_points(gate: GateSpec) -> str:
    text = (
        f"Operating points: alpha = {', '.join(f'{alpha:g}' for alpha in gate.alphas)}; {gate.alpha:g} is the default."
    )
    if missing := sorted(set(ALPHAS) - set(gate.alphas)):
        needs = ", ".join(f"{alpha:g} (needs {conformal.smallest(alpha)} images)" for alpha in missing)
        text += f" Left out, for want of calibration images: {needs}."
    return text


def _classes_text(gate: GateSpec, labels: Sequence[str], markdown: bool) -> list[str]:
    rows = [["predicted class", "images", "threshold", "acceptance, 95 %", "largest rejection, 95 %"]]
    for label in labels:
        if own := gate.classes.get(label):
            low, high = (100 * bound for bound in own.tpr_interval)
            interval = f"{low:.2f} to {high:.2f} %"
            rows.append([label, f"{own.n}", f"{own.threshold:.6g}", interval, f"{100 * own.max_rejection:.2f} %"])
    shared = [label for label in labels if label not in gate.classes]
    texts = [_layout(rows, markdown)] if len(rows) > 1 else []
    if shared:
        texts.append(
            f"Fewer than {conformal.smallest(gate.alpha)} calibration images were predicted as {', '.join(shared)}: too few "
            f"for a threshold of their own. These classes share `{gate.score} >= {gate.threshold:.6g}`, calibrated on all "
            "images, without a promise for each of them; an image of any class is rejected with probability at most "
            f"{2 * gate.alpha:g}."
        )
    return texts


def _choice_text(
    choice: Choice, score: str, parameters: Mapping[str, Mapping[str, float]], markdown: bool
) -> list[str]:
    sets = ", ".join(f"{name} ({count})" for name, count in choice.outliers.items())
    scores = list(next(iter(choice.auroc.values())))
    rows = [["AUROC, %", *choice.outliers, "mean"]]
    for name in scores:
        values = [table[name] for table in choice.auroc.values()]
        marked = f"{name} *" if name == score else name
        rows.append([marked, *(f"{100 * value:.2f}" for value in [*values, float(np.mean(values))])])
    text = f"The scores were compared on {choice.n} other in-distribution images, against the outliers {sets}."
    if choice.temperatures:
        temperature = parameters["energy"]["temperature"]
        table = ", ".join(f"{t}: {100 * value:.2f}" for t, value in choice.temperatures.items())
        text += f" The energy's temperature {temperature:g} was chosen with them, by mean AUROC ({table})."
    return [text, _layout(rows, markdown)]


def _confidence_text(confidence: Confidence, task: Task) -> str:
    function = "sigmoid" if task == "multilabel" else "softmax"
    return (
        f"The reported confidence is {function}(logits / T) with T = {confidence.temperature:.4g}, the most likely for "
        f"{confidence.n} calibration images. Its expected calibration error on them (15 bins) went from "
        f"{100 * confidence.ece_before:.2f} % to {100 * confidence.ece_after:.2f} %."
    )


def _layout(rows: Sequence[Sequence[str]], markdown: bool) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if not markdown:
        return "\n".join(lines)
    cells = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    rule = "|".join("-" * (width + 2) for width in widths)
    return "\n".join([f"| {cells[0]} |", f"|{rule}|", *(f"| {line} |" for line in cells[1:])])
