"""A bundle's gate, fitted again on other images, or moved to another of its operating points."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from export.arguments import print_remarks
from export.calibrate.gating import fit_gate
from export.calibrate.options import GateOptions
from export.exceptions import ExportError
from export.report.guarantee import gate_text
from export.rewriting import rewrite
from runtime.bundle import Bundle
from runtime.gate import load_engine
from runtime.manifest import Manifest
from train.data import Reading, as_source

# Options that stay as they were where they are not given.
AS_BEFORE = (
    *("score", "alpha", "temperature", "merge", "class_conditional"),
    *("guarantee", "confidence", "max_error", "select", "prediction_sets"),
)
_DEFAULT = Reading()


def recalibrate(
    path: Path,
    images: Any,
    given: Mapping[str, Any],
    *,
    reading: Reading = _DEFAULT,
    allow_leakage: bool = False,
    threads: int = 0,
) -> None:
    """Re-write a bundle with another gate, and print what it is.

    Args:
        path: of the bundle.
        images: in-distribution ones that were not trained on: a source, or what :func:`train.data.in_memory` takes; None
            moves the threshold to a stored operating point.
        given: fields of :class:`GateOptions`; those of :data:`AS_BEFORE` that are not there stay as the bundle has them.
        reading: what the user says of the sources.
        allow_leakage: whether images that the model learned from may calibrate it.
        threads: of the engine.

    Raises:
        ExportError: options that don't go with each other or with the bundle.
        BundleError, DataError, CalibrationError: as loading the bundle and :func:`fit_gate` raise them.
    """
    loaded = Bundle.load(path)
    loaded.check_graph(load_engine(loaded, threads=threads).signature)
    model, warning, note = onnx.load_from_string(loaded.model), None, None
    if images is None:
        manifest = _moved(loaded.manifest, given)
    else:
        kept = GateOptions.of(loaded.manifest, reading, allow_leakage=allow_leakage)
        options = kept.changed({**given, "aux": tuple(given.get("aux", ()))})
        source = as_source(images, loaded.manifest.input, reading=reading)
        gated = fit_gate(model, loaded.manifest, source, options, threads=threads)
        manifest, warning, note = gated.manifest, gated.warning, gated.note
    dropped = rewrite(path, loaded.manifest, model, manifest, threads=threads)
    print(f"{path}: {gate_text(manifest)}")
    if dropped:
        print(f"dropped, as made for the gate before: {', '.join(dropped)}")
    print_remarks(note=note, warning=warning)


def _moved(manifest: Manifest, given: Mapping[str, Any]) -> Manifest:
    """The manifest with its gate at another operating point."""
    if set(given) != {"alpha"}:
        raise ExportError("without SOURCE only --alpha can be given: the rest is fitted on images")
    if manifest.gate is None:
        raise ExportError("the bundle is not calibrated yet; give a SOURCE of in-distribution images")
    if (gate := manifest.gate.at(given["alpha"])) == manifest.gate:
        return manifest
    return dataclasses.replace(manifest, gate=gate, parity=manifest.parity and manifest.parity.of_graph)
