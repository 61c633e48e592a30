"""Bundles of every kind of gate, made of the small network."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import onnx

from export.calibrate.gating import fit_gate
from export.calibrate.options import GateOptions
from export.graph.head import seal
from runtime import bundle
from runtime.bundle import Bundle
from runtime.manifest import Confidence, Manifest
from tests.small import ALPHA, classifier, write_bundle, write_labelled

KINDS = {
    "of classes": GateOptions("energy", ALPHA, class_conditional=True),
    "merged": GateOptions("msp+nan", ALPHA, merge="harmonic"),
    "selective": GateOptions("energy", ALPHA, max_error=0.05),
}


def gated(path: Path, small: Bundle, options: GateOptions) -> Bundle:
    """A bundle with another gate."""
    model = onnx.load_from_string(small.model)
    source = write_labelled(path.with_suffix(".npz"), small)
    return rewritten(path, model, fit_gate(model, small.manifest, source, options, threads=1).manifest)


def tempered(path: Path, small: Bundle, temperature: float) -> Bundle:
    """A bundle with scaled probabilities."""
    confidence = Confidence(temperature, 100, 0.2, 0.1)
    return rewritten(
        path, onnx.load_from_string(small.model), dataclasses.replace(small.manifest, confidence=confidence)
    )


def multilabel(path: Path) -> Bundle:
    """A bundle with a sigmoid a label."""
    return write_bundle(path, dataclasses.replace(classifier(), task="multilabel"))


def rewritten(path: Path, model: onnx.ModelProto, manifest: Manifest) -> Bundle:
    return bundle.write(path, manifest, {bundle.MODEL: seal(model, manifest)}, {})
