"""The model card, and the other files of a bundle that are for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from export.checks.accuracy import accuracy_text
from export.checks.precision import precision_warning
from export.metrics.evaluation import Evaluation
from export.report.evaluation import sections
from export.report.guarantee import gate_text
from export.report.table import layout
from runtime.bundle import CARD, EVALUATION, HISTOGRAM, RISK_COVERAGE, ROC
from runtime.manifest import Manifest, Parity

_PICTURES = {
    HISTOGRAM: "Histogram of the gate's score",
    ROC: "ROC curve of the gate's score against each OOD set",
    RISK_COVERAGE: "Risk against coverage",
}


def documents(
    manifest: Manifest, evaluation: Evaluation | None = None, pictures: Mapping[str, bytes] | None = None
) -> dict[str, bytes]:
    """The files of a bundle that are for people, by name."""
    pictures = pictures or {}
    files = {CARD: card(manifest, evaluation, tuple(pictures)).encode(), **pictures}
    if evaluation:
        files[EVALUATION] = (json.dumps(evaluation.to_dict(), indent=1) + "\n").encode()
    return files


def card(manifest: Manifest, evaluation: Evaluation | None = None, pictures: Sequence[str] = ()) -> str:
    """The model card in markdown, with the names of its pictures."""
    model, spec = manifest.model, manifest.input
    parts = [
        f"# {model.name}",
        _what(manifest),
        layout(
            [
                ["", ""],
                [
                    "architecture",
                    f"{model.arch}, {model.parameters:,} parameters, {model.features} penultimate features",
                ],
                ["training method", model.method],
                *_trained_on(manifest),
                ["precision", model.precision],
                *_labels(manifest),
                ["input", f"{spec.height} x {spec.width} RGB, {spec.resize}, {spec.interpolation}"],
                ["embedded colour profiles", "converted to sRGB" if spec.colour == "srgb" else "ignored"],
                ["scores", ", ".join(manifest.scores)],
            ],
            markdown=True,
        ),
        *_found(manifest),
        "## Gate",
        gate_text(manifest, markdown=True),
        *_unusual(manifest),
    ]
    if model.precision != "fp32":
        parts += ["## Precision", precision_text(manifest)]
    if evaluation:
        parts += ["## Evaluation", *sections(evaluation)]
        parts += [f"![{_PICTURES[name]}]({name})" for name in pictures]
    if manifest.provenance:
        parts += ["## Provenance", "```json\n" + json.dumps(manifest.provenance, indent=1) + "\n```"]
    return "\n\n".join(parts) + "\n"


def _what(manifest: Manifest) -> str:
    if manifest.task == "unlabelled":
        return "A gate without classes: it accepts images like those that calibrated it, and rejects others."
    return f"A {manifest.task} image classifier that rejects what it does not know."


def _labels(manifest: Manifest) -> list[list[str]]:
    """The row of its labels, if it has any."""
    names, count = ", ".join(manifest.labels), len(manifest.labels)
    return [["labels", names if count <= 20 else f"{count}"]] if count else []


def _trained_on(manifest: Manifest) -> list[list[str]]:
    """Rows of what the network learned from, as far as its checkpoint said."""
    rows = []
    sources = manifest.provenance.get("training", {}).get("sources", {})
    if "data" in sources:
        rows.append(["trained on", sources["data"]])
    if "aux" in sources:
        rows.append(["auxiliary outliers", ", ".join(sources["aux"])])
    if "init" in sources:
        init = sources["init"]
        before = init["weights"] if "weights" in init else f"{init['method']}, {init['epochs']:g} epochs"
        rows.append(["fine-tuned from", before])
    return rows


def _found(manifest: Manifest) -> list[str]:
    """What the export found out: how often the classifier was right, what was changed, and what may be a mistake."""
    checks = manifest.provenance.get("checks", {})
    lines = [f"- {step} taken off the model's outputs, to have logits" for step in checks.get("undone", ())]
    if checks.get("accuracy"):
        lines.append(f"- {accuracy_text(checks['accuracy'])}, of the fp32 file when it was exported")
    lines += [f"- warning: {line}" for line in checks.get("warnings", ())]
    return ["## Found by the export", "\n".join(lines)] if lines else []


def _unusual(manifest: Manifest) -> list[str]:
    """What may be a mistake in the gate's calibration."""
    lines = [f"- warning: {line}" for line in manifest.provenance.get("gate", {}).get("warnings", ())]
    return ["\n".join(lines)] if lines else []


def precision_text(manifest: Manifest) -> str:
    """What is computed in which precision, and what became of logits, if any, and decisions."""
    text = (
        f"The layers before the penultimate activations are {manifest.model.precision}; the normalisation of images, scores "
        "and gate are fp32."
    )
    if manifest.model.precision == "bf16":
        text = (
            "The graph is that of fp32; OpenVINO computes the layers before the penultimate activations in bf16, where the "
            "CPU has instructions for it; scores and gate are fp32."
        )
    if warning := precision_warning(manifest.model.precision, manifest.parity):
        text = f"{warning}. {text}"
    return f"{text} {_parity_text(manifest.parity)}" if manifest.parity else text


def _parity_text(parity: Parity) -> str:
    found = []
    if parity.label_agreement is not None:
        found += [
            f"the predicted class is the same for {100 * parity.label_agreement:.2f} %",
            f"logits differ by {parity.mean_logit_difference:.3g} on average and {parity.max_logit_difference:.3g} at most",
        ]
    if parity.flips is not None:
        found.append(
            f"with the threshold calibrated for this file, {_images(parity.flips, parity)} decided otherwise "
            f"({parity.newly_rejected} newly rejected, {parity.newly_accepted} newly accepted)"
        )
    if parity.flips_with_fp32_threshold is not None:
        kept = _images(parity.flips_with_fp32_threshold, parity)
        found.append(f"with the threshold of the fp32 file {kept} would be")
    if parity.flips_with_own_threshold is not None:
        own = _images(parity.flips_with_own_threshold, parity)
        found.append(f"an engine that computes this file in fp32 decides {own} otherwise")
    return f"Against the fp32 bundle, on {parity.images} images of {parity.source}: {'; '.join(found)}."


def _images(count: int, parity: Parity) -> str:
    return f"{count} ({100 * count / parity.images:.2f} %)"
