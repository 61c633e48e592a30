"""What a bundle's own graph makes of its golden images, on the engine that its gate is calibrated on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from export.golden.drawing import draw
from export.images.inference import make_engine, numerics
from runtime.bundle import entry
from runtime.engines.interface import Outputs
from runtime.golden.document import FOLDER, GOLDEN, Golden, GoldenImage, digest
from runtime.manifest import GateSpec, Manifest
from runtime.preprocess import decoded, preprocess
from runtime.rule import Rule

Pixels = npt.NDArray[np.uint8]


def golden(sealed: bytes, manifest: Manifest, gate: GateSpec, *, threads: int = 0) -> dict[str, bytes]:
    """The files of ``golden/``: the images, and ``golden.json``.

    Args:
        sealed: the bytes of model.onnx.
        manifest: of it.
        gate: its gate, at the operating point that is its default.
        threads: of the engine; 0 takes one for each physical core.

    Raises:
        ExportError: the machine can't compute the manifest's precision.
    """
    spec = manifest.input
    files = draw(spec)
    whole = [decoded(data, spec) for data in files.values()]
    pixels = [preprocess(data, spec) for data in files.values()]
    outputs = make_engine(sealed, manifest.model.precision, threads).run(np.stack(pixels))
    how = numerics(manifest.model.precision)
    document = Golden(
        model=entry(sealed).sha256,
        engine=how.engine,
        precision=how.precision,
        machine_flags=how.machine_flags,
        alpha=gate.alpha,
        images=_images(list(files), whole, pixels, outputs, manifest),
    )
    named = {f"{FOLDER}/{name}": data for name, data in files.items()}
    return {**named, GOLDEN: document.to_json().encode()}


def _images(
    names: Sequence[str], whole: Sequence[Pixels], pixels: Sequence[Pixels], outputs: Outputs, manifest: Manifest
) -> tuple[GoldenImage, ...]:
    accepts = Rule.of(manifest).verified(outputs).tolist()
    labels = manifest.labels
    classes: list[int | None] = outputs.logits.argmax(axis=1).tolist() if labels else [None] * len(names)
    return tuple(
        GoldenImage(
            file=name,
            width=whole[i].shape[1],
            height=whole[i].shape[0],
            decoded=digest(whole[i]),
            pixels=digest(pixels[i]),
            mean=_mean(pixels[i]),
            logits=_numbers(outputs.logits[i]) or None,
            scores=dict(zip(manifest.scores, _numbers(outputs.scores[i]), strict=True)),
            decision="accept" if accepts[i] else "reject",
            class_index=index,
            label=labels[index] if accepts[i] and index is not None else None,
        )
        for i, (name, index) in enumerate(zip(names, classes, strict=True))
    )


def _mean(pixels: Pixels) -> tuple[float, float, float]:
    red, green, blue = (round(float(level), 3) for level in pixels.mean(axis=(0, 1)))
    return red, green, blue


def _numbers(values: npt.NDArray[np.float32]) -> tuple[float | None, ...]:
    """The shortest decimals that read back as the same float32."""
    return tuple(float(str(value)) if math.isfinite(value) else None for value in values)
