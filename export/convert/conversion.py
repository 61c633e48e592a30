"""From a calibrated fp32 graph to one of another precision, calibrated on its own outputs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import onnx

from export.calibrate.gating import fit_gate, split, without_gate
from export.calibrate.options import GateOptions
from export.checks.precision import precision_warning
from export.convert.half import to_half
from export.convert.int8 import Int8Options, quantise
from export.exceptions import ExportError
from export.graph import head
from export.images import leakage
from export.images.inference import check_precision, collect, make_engine
from export.parity.difference import compare
from runtime.manifest import Manifest, Precision
from train.data import ImageSet, SelectedImages, load, short_name

# Images whose ranges int8 learns, and as many again that choose how; together less than a sketch tells apart exactly.
MAX_IMAGES = 128


@dataclass(frozen=True)
class Converted:
    """A graph of another precision.

    Attributes:
        model, manifest: with a gate of their own, if there were images to calibrate one.
        warning: that it is another classifier by now, or why the reported confidence could not be calibrated.
    """

    model: onnx.ModelProto
    manifest: Manifest
    warning: str | None = None


def convert(
    model: onnx.ModelProto,
    manifest: Manifest,
    precision: Precision,
    source: str | ImageSet | None,
    options: GateOptions,
    int8: Int8Options,
    *,
    threads: int = 0,
) -> Converted:
    """A copy of the graph at another precision, with what became of logits and decisions in its manifest.

    Args:
        model, manifest: of fp32; calibrated, if parity is to be told.
        precision: ``bf16``, ``fp16`` or ``int8``.
        source: in-distribution images to quantise and calibrate with, which int8 and bf16 need; without any, the result
            is not calibrated.
        options: what gate is wanted.
        int8: how int8 is made.
        threads: of the engine.

    Raises:
        ExportError: a graph that is not fp32 or can't be converted; int8 or bf16 without a source; bf16 where the machine
            can't compute it.
        DataError, CalibrationError: as :func:`export.calibrate.gating.fit_gate`.
    """
    check_precision(precision)
    if manifest.model.precision != "fp32":
        raise ExportError(f"{manifest.model.name} is {manifest.model.precision} already; convert its fp32 bundle")
    converted = onnx.ModelProto()
    converted.CopyFrom(model)
    result = manifest if source is not None else without_gate(converted, manifest)
    result = dataclasses.replace(result, model=dataclasses.replace(result.model, precision=precision, numerics=None))
    if precision == "int8":
        if source is None:
            raise ExportError("int8 learns the ranges of activations from images: a source is needed")
        result = _quantise(converted, result, source, options, int8)
    elif precision == "fp16":
        to_half(converted)
    elif source is None:
        raise ExportError("bf16 is what an engine computes in, and no other graph: it needs a source to calibrate on")
    if source is None:
        head.set_gate(converted, 0, float("nan"))
        return Converted(converted, result)
    gated = fit_gate(converted, result, source, options, threads=threads)
    result = gated.manifest
    if manifest.gate:
        outputs = [
            collect(
                make_engine(head.seal(graph, described), described.model.precision, threads),
                gated.images,
                title=described.model.precision,
            )
            for graph, described in ((model, manifest), (converted, result))
        ]
        difference = compare(short_name(source), manifest, outputs[0], result, outputs[1])
        result = dataclasses.replace(result, parity=difference.summary())
    warnings = filter(None, (precision_warning(precision, result.parity), gated.warning))
    return Converted(converted, result, "; ".join(warnings) or None)


def _quantise(
    model: onnx.ModelProto, manifest: Manifest, source: str | ImageSet, options: GateOptions, int8: Int8Options
) -> Manifest:
    """Quantise in place, with images of the quarter that :mod:`export.calibrate.gating` holds out."""
    # What was left out is said when it is calibrated.
    read = load(source, manifest.input, reading=options.reading) if isinstance(source, str) else source
    images = read.images
    held, _ = split(len(images))
    used = held[: 2 * MAX_IMAGES]
    ranges, others = (SelectedImages(images, np.sort(part)) for part in np.array_split(used, 2))
    how = quantise(model, ranges, others if len(others) else ranges, int8)
    manifest = leakage.record(manifest, leakage.QUANTISATION, short_name(source), SelectedImages(images, used))
    provenance = {**dataclasses.asdict(int8), **dataclasses.asdict(how), "images": len(used)}
    return dataclasses.replace(manifest, provenance={**manifest.provenance, leakage.QUANTISATION: provenance})
