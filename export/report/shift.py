"""What an evaluation says of shifted images: how many the gate rejects, and whether it should."""

from __future__ import annotations

from collections.abc import Iterator

from export.metrics.evaluation import Evaluation
from export.metrics.intervals import Interval
from export.metrics.shift import Shifted
from export.report.table import layout, percent

_COLUMNS = (("AUROC", "auroc"), ("FPR95 ID-pos.", "fpr95_id_positive"), ("FPR95 OOD-pos.", "fpr95_ood_positive"))


def shifted_lines(evaluation: Evaluation) -> Iterator[str]:
    """A line a set, and one more where the gate rejects most of what the model still classifies well."""
    for name, found in evaluation.shifted.items():
        rejected = percent(found.rejection, found.rejection_interval)
        uncertain = f", {100 * found.uncertain:.2f} % as uncertain" if found.uncertain is not None else ""
        yield f"shifted {name}: {found.images} images of known classes, {rejected} % rejected{uncertain}"
        if found.needless and found.accuracy is not None and evaluation.id.accuracy is not None:
            yield (
                f"shifted {name}: NOT WANTED: the gate takes most of these images for unknown although the model still "
                f"classifies {100 * found.accuracy:.2f} % of them right ({100 * evaluation.id.accuracy:.2f} % of the ID "
                "images); calibrate with images like these among the others, or choose another score"
            )


def shifted_table(evaluation: Evaluation, *, markdown: bool = False) -> str:
    """A row a set: how many are rejected, and how many classified right of all, of those accepted and those rejected."""
    if not evaluation.shifted:
        return ""
    rows = [["shifted set", "images", "rejected", "accuracy", "of accepted", "of rejected"]]
    rows += [_row(name, found) for name, found in evaluation.shifted.items()]
    return layout(rows, markdown)


def full_spectrum_table(evaluation: Evaluation, *, markdown: bool = False) -> str:
    """A row an OOD set by the gate's score, where shifted images count as known."""
    if not evaluation.full_spectrum:
        return ""
    rows = [["OOD set, full spectrum", "score", *(title for title, _ in _COLUMNS)]]
    for name, scores in evaluation.full_spectrum.items():
        figures = scores[evaluation.score]
        rows.append([name, f"{evaluation.score} *", *(f"{100 * getattr(figures, field):.2f}" for _, field in _COLUMNS)])
    return layout(rows, markdown)


def shifted_sections(evaluation: Evaluation) -> list[str]:
    """What the card says of shifted images; nothing where there were none."""
    if not evaluation.shifted:
        return []
    return [
        "Shifted images are of the model's classes. In percent, with 95 % intervals.",
        shifted_table(evaluation, markdown=True),
        "Full spectrum: the gate's score where shifted images count as known, in percent; FPR95 as above.",
        full_spectrum_table(evaluation, markdown=True),
    ]


def _row(name: str, found: Shifted) -> list[str]:
    return [
        name,
        f"{found.images}",
        percent(found.rejection, found.rejection_interval),
        _share(found.accuracy, found.accuracy_interval),
        _share(found.accuracy_accepted, found.accuracy_accepted_interval),
        _share(found.accuracy_rejected, found.accuracy_rejected_interval),
    ]


def _share(value: float | None, interval: Interval | None) -> str:
    return "-" if value is None or interval is None else percent(value, interval)
