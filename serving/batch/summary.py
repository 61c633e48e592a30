"""What an output says in all."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from serving.batch.discovery import Discovery, counted
from serving.batch.parts import Parts, said_by

FILE = "_summary.json"  # there when the output is whole


@dataclass(frozen=True)
class Summary:
    """How many rows there are of what.

    Attributes:
        accepted: images.
        rejected: images by the reason.
        errors: images without a decision by the error's code.
        p_values: how often each occurs.
        marks: how parts say that their outliers were found; one where the output is of a piece.
    """

    accepted: int
    rejected: Counter[str]
    errors: Counter[str]
    p_values: Counter[float] = field(repr=False)
    marks: frozenset[Discovery | None] = frozenset()

    @property
    def decided(self) -> int:
        """Images with a decision."""
        return self.accepted + self.rejected.total()

    @property
    def images(self) -> int:
        """Rows."""
        return self.decided + self.errors.total()

    def text(self) -> str:
        """One line for people."""
        return (
            f"{self.images:,} images: {self.accepted:,} accepted, {_listed(self.rejected, 'rejected')}, "
            f"{_listed(self.errors, 'errors')}"
        )

    def document(self, discovery: Discovery | None) -> dict[str, Any]:
        """What :data:`FILE` says."""
        found = {"images": self.images, "accepted": self.accepted, "rejected": self.rejected, "errors": self.errors}
        return found if discovery is None else {**found, "fdr": vars(discovery)}


def survey(parts: Parts) -> Summary:
    """Count an output's rows, one part in memory at a time."""
    found = Summary(0, Counter(), Counter(), Counter())
    accepted = 0
    marks: set[Discovery | None] = set()
    for _, rows in parts.tables(["decision", "reason", "error", "p_value"]):
        accepted += _counts(rows["decision"])["accept"]
        found.rejected.update(_counts(rows["reason"]))
        found.errors.update(_counts(rows["error"]))
        found.p_values.update(counted(rows["p_value"]))
        said = said_by(rows).get("fdr")
        marks.add(Discovery(**said) if said else None)
    return Summary(accepted, found.rejected, found.errors, found.p_values, frozenset(marks))


def discovery_text(discovery: Discovery) -> str:
    """One line on the outliers."""
    start = f"outliers: {discovery.outliers:,} of {discovery.tested:,} at a false discovery rate of {discovery.q:g}"
    if discovery.threshold is not None:
        return f"{start}, those with a p-value of at most {discovery.threshold:.6g}"
    return (
        f"{start}; for any to be found, {discovery.needed:,} images would need the smallest p-value that there is: calibrate "
        "with more images for a smaller one"
    )


def _counts(column: pa.ChunkedArray) -> Counter[str]:
    return Counter({each["values"]: each["counts"] for each in column.drop_null().value_counts().to_pylist()})


def _listed(counts: Counter[str], title: str) -> str:
    start = f"{counts.total():,} {title}"
    each = ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))
    return f"{start} ({each})" if counts else start


def as_json(document: dict[str, Any]) -> bytes:
    """The bytes of :data:`FILE`."""
    return (json.dumps(document, indent=1) + "\n").encode()
