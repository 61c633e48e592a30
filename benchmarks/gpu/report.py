"""The report of :mod:`benchmarks.gpu`: what was timed, what was not and why, as JSON and as a page."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from export.report.table import layout

_INTRODUCTION = """\
Made by `python -m benchmarks.gpu`. A call goes from images in the host's memory to logits and scores there, and torch's to
logits. *gate* is the median with scores and decision over the median without them; *copy in* and *copy out* are what the
copies alone take from and to pinned memory, as a share of the median; *difference* is the largest of a logit from ONNX
Runtime's on the CPU, as a share of their range. In fp32 a GPU may use TF32, as every library here does by default."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A graph on an engine.

    Attributes:
        model, precision, engine: which.
    """

    model: str
    precision: str
    engine: str


@dataclasses.dataclass(frozen=True)
class Row:
    """A case at one batch size.

    Attributes:
        case, batch: what was timed.
        median_ms, p99_ms: of a call, from images in the host's memory to logits and scores there.
        images_per_second: at the median.
        gate: median with the gate over median without it; None where that was not timed.
        to_device, to_host: what the copies alone take, as a share of the median; None without a GPU.
        difference: largest difference of a logit from the CPU's, as a share of their range.
        kernels, head_kernels: of a native engine.
    """

    case: Case
    batch: int
    median_ms: float
    p99_ms: float
    images_per_second: float
    gate: float | None
    to_device: float | None
    to_host: float | None
    difference: float
    kernels: int | None = None
    head_kernels: int | None = None


@dataclasses.dataclass(frozen=True)
class Skip:
    """What was not timed, and why; `batch` is None where that holds for every size."""

    case: Case
    batch: int | None
    reason: str


@dataclasses.dataclass
class Findings:
    """What has been found so far, written to `out` again and again, so that an end before the end loses little."""

    out: Path
    machine: dict[str, str]
    rows: list[Row] = dataclasses.field(default_factory=list)
    skipped: list[Skip] = dataclasses.field(default_factory=list)

    def skip(self, case: Case, batch: int | None, error: Exception) -> None:
        """Keep why something was not timed."""
        lines = str(error).splitlines() or [type(error).__name__]
        self.skipped.append(Skip(case, batch, lines[0].strip()))
        tqdm.write(f"{case.model}, {case.precision}, {case.engine}: {lines[0].strip()}")

    def write(self) -> str:
        """Write both files; the page."""
        report = {"machine": self.machine, "rows": _plain(self.rows), "skipped": _plain(self.skipped)}
        self.out.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
        text = markdown(self.rows, self.skipped, self.machine)
        self.out.with_suffix(".md").write_text(text)
        return text


def _plain(found: Sequence[Row | Skip]) -> list[dict[str, Any]]:
    each_as_values = (dataclasses.asdict(each) for each in found)
    return [{**values.pop("case"), **values} for values in each_as_values]


def markdown(rows: Sequence[Row], skipped: Sequence[Skip], described: dict[str, str]) -> str:
    """The page: what was timed on what, a table a graph, and what was not timed."""
    header = ["engine", "batch", "median, ms", "p99, ms", "images/s", "gate", "copy in", "copy out", "difference"]
    header += ["kernels", "of the head"]

    def cell(value: float | None, text: str) -> str:
        return "" if value is None else format(value, text)

    facts = "\n".join(f"- {name}: {value}" for name, value in described.items())
    parts = [f"# Engines on {described.get('gpu', 'a CPU')}", _INTRODUCTION, facts]
    for model, precision in dict.fromkeys((row.case.model, row.case.precision) for row in rows):
        cells = [
            [
                *(row.case.engine, str(row.batch), f"{row.median_ms:.3f}", f"{row.p99_ms:.3f}"),
                *(f"{row.images_per_second:,.0f}", cell(row.gate, ".3f")),
                *(cell(row.to_device, ".1%"), cell(row.to_host, ".1%"), f"{row.difference:.1e}"),
                *(cell(row.kernels, "d"), cell(row.head_kernels, "d")),
            ]
            for row in rows
            if (row.case.model, row.case.precision) == (model, precision)
        ]
        parts += [f"## {model}, {precision}", layout([header, *cells], markdown=True)]
    if skipped:
        parts.append("## Not timed")
        reasons: dict[str, list[str]] = {}
        for each in skipped:
            where = f"{each.case.engine} ({each.case.model}, {each.case.precision}"
            reasons.setdefault(each.reason, []).append(where + (f", batch {each.batch})" if each.batch else ")"))
        parts.append("\n".join(f"- {'; '.join(cases)}: {reason}" for reason, cases in reasons.items()))
    return "\n\n".join(parts) + "\n"
