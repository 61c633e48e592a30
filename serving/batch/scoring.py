"""A chunk to its rows: decoded, decided by the gate, laid out as a table. The same functions for every engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from runtime.decision import Decision
from runtime.exceptions import ImageError
from runtime.gate import Gate
from runtime.manifest import InputSpec, Manifest
from runtime.preprocess import Limits, preprocess
from serving.batch import places
from serving.batch.images import Chunk, Failure, Image, Part


@dataclass(frozen=True)
class Decoded:
    """A chunk's images at the model's size.

    Attributes:
        part, number, last, final: of :class:`serving.batch.images.Chunk`.
        keys: of all its images.
        failures: of those that are no usable images, by their place in the chunk.
        pixels: uint8 [N, H, W, 3], RGB, of the others.
    """

    part: Part
    number: int
    last: bool
    final: bool
    keys: tuple[str, ...]
    failures: dict[int, Failure]
    pixels: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Scored:
    """The rows of a chunk, of :func:`schema`; else as :class:`Decoded`."""

    part: Part
    number: int
    last: bool
    final: bool
    rows: pa.Table


def decode(chunk: Chunk, spec: InputSpec) -> Decoded:
    """Read and decode a chunk's images, as `oodgate run` does."""
    results = [_pixels(image, spec) for image in chunk.images]
    usable = [each for each in results if not isinstance(each, Failure)]
    return Decoded(
        chunk.part,
        chunk.number,
        chunk.last,
        chunk.final,
        tuple(printable(image.key) for image in chunk.images),
        {i: each for i, each in enumerate(results) if isinstance(each, Failure)},
        np.stack(usable) if usable else np.empty((0, spec.height, spec.width, 3), np.uint8),
    )


def score(gate: Gate, decoded: Decoded) -> Scored:
    """Decide on a chunk.

    Raises:
        EngineError: the batch failed.
    """
    decisions = iter(gate.decide(decoded.pixels))
    results = [decoded.failures.get(i) or next(decisions) for i in range(len(decoded.keys))]
    rows = table(decoded.keys, results, gate.manifest)
    return Scored(decoded.part, decoded.number, decoded.last, decoded.final, rows)


def printable(text: str) -> str:
    """A text as UTF-8 can have it, as names of files need not be."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _pixels(image: Image, spec: InputSpec) -> npt.NDArray[np.uint8] | Failure:
    limits = Limits()
    content = image.content
    try:
        if isinstance(content, str):
            content = places.read(content, limits.max_bytes + 1)
        return content if isinstance(content, Failure) else preprocess(content, spec, limits)
    except ImageError as error:
        return Failure.of(error)
    except OSError as error:
        return Failure("unreadable_file", error.strerror or str(error))


def schema(manifest: Manifest) -> pa.Schema:
    """The columns of an output; those from `decision` to the scores are null where there is an error.

    `outlier` is null until a false discovery rate is asked for (:mod:`serving.batch.discovery`).
    """
    gate = manifest.gate
    selects = gate is not None and gate.max_error is not None
    return pa.schema(
        [
            pa.field("key", pa.string(), nullable=False),
            ("decision", pa.string()),
            ("reason", pa.string()),
            ("label", pa.string()),
            ("class_index", pa.int32()),
            ("confidence", pa.float64()),
            *([("labels", pa.list_(pa.string()))] if manifest.task == "multilabel" else []),
            ("score", pa.float32()),
            ("threshold", pa.float32()),
            ("p_value", pa.float64()),
            *([("selection", pa.float32()), ("selection_threshold", pa.float32())] if selects else []),
            *((f"score_{name}", pa.float32()) for name in manifest.scores),
            ("error", pa.string()),
            ("message", pa.string()),
            ("outlier", pa.bool_()),
        ]
    )


def table(keys: Sequence[str], results: Sequence[Decision | Failure], manifest: Manifest) -> pa.Table:
    """The rows of images, from their decisions or failures."""
    columns = schema(manifest)
    rows = [_failed(one) if isinstance(one, Failure) else _decided(one) for one in results]
    values = [pa.array([row.get(field.name) for row in rows], field.type) for field in list(columns)[1:]]
    return pa.Table.from_arrays([pa.array(keys, pa.string()), *values], schema=columns)


def _failed(failure: Failure) -> dict[str, object]:
    return {"error": failure.code, "message": printable(failure.message)}


def _decided(decision: Decision) -> dict[str, object]:
    selection = decision.selection
    return {
        "decision": decision.decision,
        "reason": decision.reason,
        "label": decision.label,
        "class_index": decision.class_index,
        "confidence": decision.confidence,
        "labels": decision.labels,
        "score": decision.score.value,
        "threshold": decision.score.threshold,
        "p_value": decision.score.p_value,
        **({} if selection is None else {"selection": selection.value, "selection_threshold": selection.threshold}),
        **{f"score_{name}": value for name, value in decision.scores.items()},
    }
