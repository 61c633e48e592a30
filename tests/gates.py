"""Bundles of every kind of gate, made of the small network, and outputs at the edges of what a gate decides."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from export.calibrate.gating import fit_gate
from export.calibrate.options import GateOptions
from export.graph.head import seal
from runtime import Decision, Gate, bundle
from runtime.bundle import Bundle
from runtime.engines.interface import Outputs
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from runtime.manifest import Confidence, Manifest
from runtime.rule import Rule
from tests.small import ALPHA, write_labelled


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


def multilabel(path: Path, small: Bundle) -> Bundle:
    """A bundle with a sigmoid a label."""
    return rewritten(path, onnx.load_from_string(small.model), dataclasses.replace(small.manifest, task="multilabel"))


def rewritten(path: Path, model: onnx.ModelProto, manifest: Manifest) -> Bundle:
    return bundle.write(path, manifest, {bundle.MODEL: seal(model, manifest)}, {})


KINDS = {
    "of classes": GateOptions("energy", ALPHA, class_conditional=True),
    "merged": GateOptions("msp+nan", ALPHA, merge="harmonic"),
    "selective": GateOptions("energy", ALPHA, max_error=0.05),
}
MADE: dict[str, Callable[[Path, Bundle], Bundle]] = {
    "plain": lambda _, small: small,
    "multilabel": multilabel,
    "tempered": lambda path, small: tempered(path, small, 2.5),
    **{kind: lambda path, small, options=options: gated(path, small, options) for kind, options in KINDS.items()},
}


class Answers:
    """An engine that gives what it is told to."""

    name = "answers"
    batches: tuple[int, ...] = ()

    def __init__(self, bundle: Bundle, outputs: Outputs) -> None:
        self.signature = OnnxRuntimeCpu(bundle.model, threads=1).signature
        self.run = lambda _: outputs


def edges(bundle: Bundle) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], list[Decision]]:
    """Logits and scores, for each class, at calibration scores, beside them, and not finite; and what is decided."""
    manifest, gate = bundle.manifest, bundle.manifest.gate
    assert gate is not None
    quantiles = gate.calibration.quantiles[gate.score]
    known = np.array([*quantiles[:: max(1, len(quantiles) // 40)], *quantiles[-2:], gate.threshold], np.float32)
    above, below = np.nextafter(known, np.float32(np.inf)), np.nextafter(known, np.float32(-np.inf))
    values = np.concatenate([known, above, below, [np.inf, -np.inf, np.nan]]).astype(np.float32)
    scores = np.ones((len(manifest.labels) * len(values), len(manifest.scores)), np.float32)
    scores[:, manifest.scores.index(gate.score)] = np.tile(values, len(manifest.labels))
    logits = np.eye(len(manifest.labels), dtype=np.float32).repeat(len(values), axis=0)
    outputs = Outputs(logits, scores, Rule.of(manifest).accepts(logits, scores))
    decided = Gate(bundle, Answers(bundle, outputs))  # type: ignore[arg-type]
    none = np.zeros((len(logits), manifest.input.height, manifest.input.width, 3), np.uint8)
    return logits, scores, decided.decisions(decided.run(none))
