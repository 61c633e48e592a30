"""Lines to put beside those of a benchmark's leaderboard, and the sets that they are means of."""

from __future__ import annotations

from collections.abc import Iterator

from export.metrics.evaluation import Evaluation
from export.metrics.leaderboard import Leaderboard, Line, Mean
from export.report.table import layout

# What OpenOOD's leaderboard calls a score.
_POSTPROCESSORS = {
    "msp": "MSP",
    "max_logit": "MLS",
    "energy": "EBO",
    "mahalanobis": "MDS",
    "rmds": "RMDS",
    "knn": "KNN",
    "vim": "VIM",
    "react": "ReAct",
    "dice": "DICE",
    "gradnorm": "GradNorm",
    "ash-b": "ASH",
    "scale": "SCALE",
    "gen": "GEN",
    "nci": "NCI",
    "fdbd": "fDBD",
    "she": "SHE",
    "klm": "KLM",
    "nnguide": "NNGuide",
    "vra": "VRA",
}
_COLUMNS = [
    "Training",
    "Postprocessor",
    "Near-OOD AUROC",
    "Far-OOD AUROC",
    "ID Accuracy",
    "Outlier Data",
    "Model Arch.",
    "Additional Description",
    "Near-OOD FPR@95",
    "Far-OOD FPR@95",
]
_OUTLIERS = {True: "✓", False: "✗", None: "?"}


def leaderboard_lines(evaluation: Evaluation) -> str:
    """A markdown line for each score in the leaderboard's columns, FPR@95 after them; the gate's score is marked."""
    board = evaluation.leaderboard
    return layout([_COLUMNS, *(_cells(board, line, evaluation.score) for line in board.lines)], True) if board else ""


def sets_table(evaluation: Evaluation, *, markdown: bool = False) -> str:
    """The gate's score on each set of the protocol, and the means of the splits, as OpenOOD's evaluator prints them."""
    board = evaluation.leaderboard
    if board is None:
        return ""
    rows = [["split", "OOD set", "images", "AUROC", "FPR@95", "missing"]]
    (line,) = (one for one in board.lines if one.score == evaluation.score and not one.full_spectrum)
    near, far = _incomplete(board, line)
    for split, names, mean, short in (("near", board.near, line.near, near), ("far", board.far, line.far, far)):
        rows += [[split, *_set(evaluation, board, name)] for name in names]
        rows.append([split, "mean", "", _figure(mean, "auroc", short), _figure(mean, "fpr95", short), ""])
    if "ID" in board.missing:
        rows.append(["ID", "", "", "", "", board.missing["ID"]])
    return layout(rows, markdown)


def leaderboard_sections(evaluation: Evaluation) -> list[str]:
    """What the card says of a protocol; nothing where none was followed."""
    board = evaluation.leaderboard
    if board is None:
        return []
    legend = (
        f"By {board.protocol}, in percent. AUROC and FPR@95 are means over the sets of a split, each counting the same. "
        "FPR@95 is the share of ID images flagged where 95 % of OOD images are (OOD is the positive class). `*` marks the "
        "gate's score."
    )
    return [legend, leaderboard_lines(evaluation), sets_table(evaluation, markdown=True), *_missing(board)]


def _missing(board: Leaderboard) -> list[str]:
    if not board.missing:
        return []
    return ["Incomplete, and so not to be compared:\n" + "\n".join(f"- {k}: {v}" for k, v in board.missing.items())]


def _cells(board: Leaderboard, line: Line, gate: str) -> list[str]:
    known = _POSTPROCESSORS.get(line.score)
    near, far = _incomplete(board, line)
    return [
        board.training,
        (f"{known} ({line.score})" if known else line.score) + " *" * (line.score == gate),
        _figure(line.near, "auroc", near),
        _figure(line.far, "auroc", far),
        _percent(line.accuracy) + " (incomplete)" * bool(_missing_of(board, line) - {*board.near, *board.far}),
        _OUTLIERS[board.outliers],
        board.arch,
        ", ".join(_description(board, line)),
        _figure(line.near, "fpr95", near),
        _figure(line.far, "fpr95", far),
    ]


def _incomplete(board: Leaderboard, line: Line) -> tuple[bool, bool]:
    """Whether figures of the near split, and of the far one, lack something: more is missing than of the other split."""
    missing = _missing_of(board, line)
    return not missing <= set(board.far), not missing <= set(board.near)


def _description(board: Leaderboard, line: Line) -> Iterator[str]:
    yield "oodgate"
    if line.full_spectrum:
        yield "full spectrum"
    if missing := sorted(_missing_of(board, line)):
        yield f"incomplete: {', '.join(missing)}"


def _missing_of(board: Leaderboard, line: Line) -> set[str]:
    """The sets with something missing that a line depends on: of shifted ones a full-spectrum line alone."""
    return {name for name in board.missing if line.full_spectrum or name in {"ID", *board.near, *board.far}}


def _set(evaluation: Evaluation, board: Leaderboard, name: str) -> list[str]:
    if name not in evaluation.ood:
        return [name, "", "", "", board.missing[name]]
    ood = evaluation.ood[name]
    figures = ood.scores[evaluation.score]
    found = [name, f"{ood.images}", _percent(figures.auroc), _percent(figures.fpr95_ood_positive)]
    return [*found, board.missing.get(name, "")]


def _figure(mean: Mean | None, field: str, incomplete: bool = False) -> str:
    return _percent(getattr(mean, field)) + " (incomplete)" * incomplete if mean else "-"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"
