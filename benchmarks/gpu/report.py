"""The report of :mod:`benchmarks.gpu`: what was timed, what was not and why, as JSON and as a page."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.gpu.ceilings import Ceilings
from export.report.table import layout

_INTRODUCTION = """\
Made by `python -m benchmarks.gpu`. A call goes from images in the host's memory to logits and scores there, and torch's to
logits, by way of pinned memory. *floor* is what no engine can go below on this GPU, as a share of the median: the operations
at the rate of a large matrix product in that precision, or the images, weights and results at that of a large copy,
whichever takes longer. *gate* is the median with scores and decision over the median without them; *copy in* and *copy out*
are what the copies alone take from and to pinned memory, as a share of the median; *difference* is the largest of a logit
from ONNX Runtime's on the CPU, as a share of their range. In fp32 a GPU may use TF32, as every library here does."""

ANCHORS = """\
Published elsewhere, to stand beside: MLPerf inference v3.1, one H100, ResNet-50 in int8: 88,526 images/s offline, and a 99th
percentile of 10.2 ms at 73,019 images/s; timm, ResNet-50 compiled on an RTX 4090: 8,039 images/s."""


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
        difference: largest difference of a logit from the CPU's, as a share of their range; None where nothing is compared.
        floor_ms: what the operations or the bytes take at least; None without a GPU.
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
    difference: float | None
    floor_ms: float | None = None
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
    """What has been found so far, written to `out` again and again, so that an end before the end loses little.

    Attributes:
        out: without suffix.
        machine: what was timed on what.
        known: its ceilings.
        until: on the monotonic clock, when no more is timed.
        served: requests over HTTP.
        rows, skipped: what was timed, and what was not.
    """

    out: Path
    machine: dict[str, str]
    known: Ceilings | None = None
    until: float = math.inf
    served: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    rows: list[Row] = dataclasses.field(default_factory=list)
    skipped: list[Skip] = dataclasses.field(default_factory=list)

    def skip(self, case: Case, batch: int | None, error: Exception) -> None:
        """Keep why something was not timed."""
        lines = str(error).splitlines() or [type(error).__name__]
        self.skipped.append(Skip(case, batch, lines[0].strip()))
        tqdm.write(f"{case.model}, {case.precision}, {case.engine}: {lines[0].strip()}")

    @property
    def late(self) -> bool:
        """Whether there is no time for more."""
        return time.monotonic() > self.until

    def add(self, file: Path) -> None:
        """Take over what an earlier run found on the same machine."""
        report = json.loads(file.read_text())
        self.machine |= report["machine"]
        if report["ceilings"] and not self.known:
            self.known = Ceilings(**report["ceilings"])
        self.served += report["served"]
        self.rows += [Row(_case(row), **row) for row in report["rows"]]
        self.skipped += [Skip(_case(skip), **skip) for skip in report["skipped"]]

    def write(self) -> str:
        """Write both files; the page."""
        report: dict[str, Any] = {"machine": self.machine, "served": self.served}
        report |= {"ceilings": self.known and dataclasses.asdict(self.known)}
        report |= {"rows": _plain(self.rows), "skipped": _plain(self.skipped)}
        self.out.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
        text = markdown(self)
        self.out.with_suffix(".md").write_text(text)
        return text


def _plain(found: Sequence[Row | Skip]) -> list[dict[str, Any]]:
    each_as_values = (dataclasses.asdict(each) for each in found)
    return [{**values.pop("case"), **values} for values in each_as_values]


def _case(values: dict[str, Any]) -> Case:
    return Case(*(values.pop(name) for name in ("model", "precision", "engine")))


def markdown(found: Findings) -> str:
    """The page: what was timed on what, a table a graph, and what was not timed."""
    parts = [f"# Engines on {found.machine.get('gpu', 'a CPU')}", _INTRODUCTION]
    parts.append("\n".join(f"- {name}: {value}" for name, value in found.machine.items()))
    parts += [ANCHORS] if found.known else []
    for model, precision in dict.fromkeys((row.case.model, row.case.precision) for row in found.rows):
        own = [row for row in found.rows if (row.case.model, row.case.precision) == (model, precision)]
        parts += [f"## {model}, {precision}", _table(own)]
    if found.served:
        header = list(found.served[0])
        cells = [
            [f"{value:,.2f}" if isinstance(value, float) else str(value) for value in each.values()]
            for each in found.served
        ]
        parts += ["## Over HTTP", layout([header, *cells], markdown=True)]
    if found.skipped:
        parts += ["## Not timed", _reasons(found.skipped)]
    return "\n\n".join(parts) + "\n"


def _number(value: Any) -> str:
    return f"{value:,.2f}" if isinstance(value, float) else str(value)


def _table(rows: Sequence[Row]) -> str:
    header = [
        "engine",
        "batch",
        "median, ms",
        "p99, ms",
        "images/s",
        "floor",
        "gate",
        "copy in",
        "copy out",
        "difference",
    ]
    header += ["kernels", "of the head"]

    def cell(value: float | None, text: str) -> str:
        return "" if value is None else format(value, text)

    def cells(row: Row) -> list[str]:
        share = None if row.floor_ms is None else row.floor_ms / row.median_ms
        return [
            *(row.case.engine, str(row.batch), f"{row.median_ms:.3f}", f"{row.p99_ms:.3f}"),
            *(f"{row.images_per_second:,.0f}", cell(share, ".1%"), cell(row.gate, ".3f")),
            *(cell(row.to_device, ".1%"), cell(row.to_host, ".1%"), cell(row.difference, ".1e")),
            *(cell(row.kernels, "d"), cell(row.head_kernels, "d")),
        ]

    return layout([header, *map(cells, rows)], markdown=True)


def _reasons(skipped: Sequence[Skip]) -> str:
    reasons: dict[str, list[str]] = {}
    for each in skipped:
        where = f"{each.case.engine} ({each.case.model}, {each.case.precision}"
        reasons.setdefault(each.reason, []).append(where + (f", batch {each.batch})" if each.batch else ")"))
    return "\n".join(f"- {'; '.join(cases)}: {reason}" for reason, cases in reasons.items())
