"""What a bundle's gate promises and how it was made, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from export import conformal
from export.detectors.combined import merged
from export.report.table import layout
from runtime.manifest import Choice, Confidence, ErrorBound, GateSpec, Manifest, Task
from runtime.manifest.promise import percent

_MERGING = {
    "min": "their minimum, times their number",
    "harmonic": "their harmonic mean",
    "fisher": "the sum of their logarithms",
}


def gate_text(manifest: Manifest, *, markdown: bool = False) -> str:
    """What the gate promises and how it was made, in paragraphs and tables."""
    gate = manifest.gate
    if gate is None:
        return "Not calibrated: the file rejects everything. Run `oodgate calibrate BUNDLE SOURCE`."
    paragraphs = [_guarantee(gate), f"Promise: {gate.promise}", _operating_points(gate)]
    if gate.class_conditional:
        paragraphs += _classes_text(gate, manifest.labels, markdown)
    if gate.max_error:
        paragraphs += _selection_text(gate, gate.max_error, markdown)
    if gate.sets:
        paragraphs += _sets_text(gate, markdown)
    if gate.score in manifest.merged:
        merging = manifest.merged[gate.score]
        how = _MERGING[merging.method]
        paragraphs.append(
            f"`{gate.score}` merges the p-values of {', '.join(merging.parts)}: {how}. They come from {merging.n} other "
            "in-distribution images."
        )
    if gate.choice:
        parts = manifest.merged.get(gate.score)
        chosen = merged.title(gate.score, parts.method if parts else None)
        paragraphs += _choice_text(gate.choice, chosen, manifest.score_parameters, markdown)
    if manifest.confidence:
        paragraphs.append(_confidence_text(manifest.confidence, manifest.task))
    if validated := _validation_text(manifest):
        paragraphs.append(validated)
    return "\n\n".join(paragraphs)


def _validation_text(manifest: Manifest) -> str | None:
    """That the calibration images were looked at in training, as far as the checkpoint said."""
    validation = manifest.provenance.get("training", {}).get("sources", {}).get("val")
    calibration = manifest.data.get("calibration")
    if calibration is None or calibration.source != validation:
        return None
    return (
        f"The images that calibrate, {validation}, gave the validation figure of every epoch too. The network did not learn "
        f"from them, but whatever settings of {manifest.model.method} were chosen by figures on them are not independent of "
        "the threshold."
    )


def _guarantee(gate: GateSpec) -> str:
    low, high = gate.tpr_interval
    tied = conformal.tied(gate.threshold, gate.calibration.quantiles[gate.score])
    accepted = "taken for known" if gate.max_error else "accepted"
    promised = f"rejected with probability at most {gate.alpha:g}"
    if gate.confidence is not None:
        promised += f" by this very gate, with {100 * gate.confidence:g} % confidence"
    if gate.class_conditional:
        by_itself = "" if gate.confidence is None else " in each class by itself, not in all of them at once"
        return (
            f"An image is {accepted} when `{gate.score}` reaches the threshold of its predicted class. The thresholds were "
            f"calibrated on {gate.n_calibration} in-distribution images by split conformal prediction within each "
            "predicted class: an image exchangeable with them that is predicted as one of the classes below is "
            f"{promised}{by_itself}. "
            "Nothing is promised for images of another source: recalibrate on yours."
        )
    return (
        f"An image is {accepted} when `{gate.score} >= {gate.threshold:.6g}`. The threshold was calibrated on "
        f"{gate.n_calibration} in-distribution images by split conformal prediction: an image exchangeable with them is "
        f"{promised}. For this calibration set the acceptance rate realised on "
        f"such images lies {_between(low, high, tied)} with {'97.5' if tied else '95'} % confidence; the largest rejection "
        f"rate compatible with it at 95 % is {100 * gate.max_rejection:.2f} %. "
        "Nothing is promised for images of another source: recalibrate on yours."
    )


def _between(low: float, high: float, tied: bool) -> str:
    """Where the acceptance rate lies, in words."""
    if tied:
        return f"above {100 * low:.2f} %, and may be 100 %, as several calibration scores are the threshold itself,"
    return f"between {100 * low:.2f} % and {100 * high:.2f} %"


def _operating_points(gate: GateSpec) -> str:
    text = (
        f"Operating points: alpha = {', '.join(f'{alpha:g}' for alpha in gate.alphas)}; {gate.alpha:g} is the default."
    )
    needs = {
        alpha: conformal.smallest(alpha, gate.confidence) for alpha in sorted(set(conformal.ALPHAS) - set(gate.alphas))
    }
    unkept = [alpha for alpha, images in needs.items() if gate.max_error and images <= gate.n_calibration]
    if few := ", ".join(f"{alpha:g} (needs {needs[alpha]} images)" for alpha in needs if alpha not in unkept):
        text += f" Left out, for want of calibration images: {few}."
    if unkept:
        listed = ", ".join(f"{alpha:g}" for alpha in unkept)
        text += f" Left out, as no threshold there keeps the error of accepted images: {listed}."
    return text


def _classes_text(gate: GateSpec, labels: Sequence[str], markdown: bool) -> list[str]:
    rows = [["predicted class", "images", "threshold", "acceptance, 95 %", "largest rejection, 95 %"]]
    for label in labels:
        if own := gate.classes.get(label):
            low, high = (100 * bound for bound in own.tpr_interval)
            tied = conformal.tied(own.threshold, gate.calibration.classes[label].quantiles)
            interval = f"above {low:.2f} %, scores are tied" if tied else f"{low:.2f} to {high:.2f} %"
            rows.append([label, f"{own.n}", f"{own.threshold:.6g}", interval, f"{100 * own.max_rejection:.2f} %"])
    shared = [label for label in labels if label not in gate.classes]
    texts = [layout(rows, markdown)] if len(rows) > 1 else []
    if shared:
        all_images = f"; an image of any class is rejected with probability at most {2 * gate.alpha:g}"
        texts.append(
            f"Fewer than {conformal.smallest(gate.alpha, gate.confidence)} calibration images were predicted as "
            f"{', '.join(shared)}: too few for a threshold of their own. These classes share `{gate.score} >= "
            f"{gate.threshold:.6g}`, calibrated on all images, without a promise for each of them"
            f"{all_images if gate.confidence is None else ''}."
        )
    return texts


def _selection_text(gate: GateSpec, bound: ErrorBound, markdown: bool) -> list[str]:
    rows = [
        ["alpha", bound.score, "known images accepted", "wrong among them", f"at most, {percent(bound.confidence)}"]
    ]
    for point in gate.points:
        if own := point.selection:
            accepted = f"{own.accepted} of {bound.n} ({100 * own.accepted / bound.n:.2f} %)"
            errors = f"{own.errors} ({100 * own.errors / own.accepted:.2f} %)"
            rows.append([f"{point.alpha:g}", f">= {own.threshold:.6g}", accepted, errors, f"{100 * own.upper:.2f} %"])
    return [
        f"An image that the gate takes for known is accepted when its `{bound.score}` reaches a threshold too, and otherwise "
        "rejected as uncertain. At each operating point by itself the error of accepted in-distribution images is at most "
        f"{bound.rate:g}, with {percent(bound.confidence)} confidence over draws of the {bound.n} labelled images that "
        "tested it and set no other threshold (fixed-sequence testing with exact binomial bounds). It says nothing of images "
        "of another source. What these images measured:",
        layout(rows, markdown),
    ]


def _sets_text(gate: GateSpec, markdown: bool) -> list[str]:
    rows = [["alpha", "coverage", "probability", "images", "labels a set"]]
    rows += [
        [f"{point.alpha:g}", f"{one.coverage:g}", f">= {one.threshold:.4g}", f"{one.n}", f"{one.size:.2f}"]
        for point in gate.points
        for one in point.sets
    ]
    return [
        "An image that the gate takes for known has label sets on request: its labels of at least a probability, and the "
        "likeliest. If it is an in-distribution one, its true label is among them with at least the probability `coverage`, "
        "on average over calibration sets, by labelled images that the gate takes for known and that set no threshold.",
        layout(rows, markdown),
    ]


def _choice_text(
    choice: Choice, score: str, parameters: Mapping[str, Mapping[str, float]], markdown: bool
) -> list[str]:
    sets = ", ".join(f"{name} ({count})" for name, count in choice.outliers.items())
    scores = list(next(iter(choice.auroc.values())))
    rows = [["AUROC, %", *choice.outliers, "mean"]]
    for name in scores:
        values = [table[name] for table in choice.auroc.values()]
        marked = f"{name} *" if name == score else name
        rows.append([marked, *(f"{100 * value:.2f}" for value in [*values, sum(values) / len(values)])])
    text = f"The scores were compared on {choice.n} other in-distribution images, against the outliers {sets}."
    if choice.temperatures:
        temperature = parameters["energy"]["temperature"]
        table = ", ".join(f"{t}: {100 * value:.2f}" for t, value in choice.temperatures.items())
        text += (
            f" The energy's temperature {temperature:g} was chosen with them, by mean AUROC ({table}): the nearest to 1 of "
            "those within 0.1 points of the largest."
        )
    return [text, layout(rows, markdown)]


def _confidence_text(confidence: Confidence, task: Task) -> str:
    function = "sigmoid" if task == "multilabel" else "softmax"
    before, after = (f"{100 * error:.2f} %" for error in (confidence.ece_before, confidence.ece_after))
    if confidence.temperature == 1:
        return (
            f"The reported confidence is {function}(logits), with an expected calibration error of {before} (15 bins) on "
            f"{confidence.n} calibration images: no temperature makes it better on images that did not set it."
        )
    if confidence.held_out:
        where = "by the temperature that the other half of them sets, so on images that did not set it,"
    else:
        where = "on the same images, which set T, so that it is larger on new ones,"
    return (
        f"The reported confidence is {function}(logits / T) with T = {confidence.temperature:.4g}, the most likely for "
        f"{confidence.n} calibration images. Its expected calibration error (15 bins), {where} went from {before} to {after}."
    )
