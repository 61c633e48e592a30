"""From a classifier to a bundle: assembled, examined, calibrated, verified, written."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import runtime
from export import making
from export.arguments import print_remarks
from export.calibrate.gating import fit_gate
from export.calibrate.options import DEFAULT, GateOptions
from export.checks.examination import EXAMINED, examine
from export.checks.findings import findings
from export.checks.sample import noise, sample
from export.checks.verification import verify
from export.classifier import Classifier, assemble
from export.convert.conversion import convert
from export.convert.int8 import Int8Options
from export.detectors.base import BASE
from export.detectors.interface import Detector
from export.exceptions import ExportError
from export.graph.head import seal
from export.images.inference import check_precision
from export.report.card import documents, precision_text
from export.report.guarantee import gate_text
from runtime import bundle
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from runtime.manifest import Manifest, Precision
from train.data import Images, as_source, check

_UNTRAINED = (
    "the gate is nan, which assumes a network that was trained on images like these; of another one --fit SOURCE compares "
    "distances to known features with it"
)


def check_options(options: GateOptions, calibration: Any) -> None:
    """Make sure, before any work, that a gate can be made as it is wanted.

    Args:
        options: what gate is wanted.
        calibration: the images for it, or None.

    Raises:
        ExportError: options that don't go with each other, or need images.
        DataError: a source that is not there.
    """
    options.check(tuple(BASE))
    # A temperature is kept in the graph; whether the score is the default one, the model's task says later.
    kept = () if options.chooses else ("--score", "--temperature")
    _check_wanted([option for option in options.asked if option not in kept], calibration)
    if isinstance(calibration, str):
        check(calibration)


def _check_wanted(options: Sequence[str], calibration: Any) -> None:
    """Raises ExportError where some options of a gate would be lost, for want of images to make it of."""
    if calibration is None and options:
        raise ExportError(
            f"{options[0]} needs --calibration: a gate is made of in-distribution images, here or later by "
            "python -m export.calibrate"
        )


def export(
    classifier: Classifier,
    out: Path,
    options: GateOptions,
    *,
    calibration: Any = None,
    name: str | None = None,
    precision: Precision = "fp32",
    int8: Int8Options = Int8Options(),  # noqa: B008  frozen
    resize: bool = True,
) -> Manifest:
    """Write a bundle, and print what was found.

    Args:
        classifier: what to export.
        out: the directory to write.
        options: what gate is wanted.
        calibration: in-distribution images that were not trained on: a source, or what :func:`train.data.in_memory` takes;
            None leaves the bundle uncalibrated.
        name: what decisions call the model; None for the directory's name.
        precision: of the layers before the penultimate activations.
        int8: how int8 is made.
        resize: whether to write pipeline.onnx too.

    Raises:
        ExportError: the classifier or the options don't give a bundle.
        DataError, CalibrationError: as :func:`export.calibrate.gating.fit_gate`.
        BundleError: something that is no bundle is at `out`, or it can't be written.
    """
    check_precision(precision)
    bundle.check_place(out)
    if (
        classifier.task == "unlabelled"
        and classifier.method == "unknown"
        and options.for_task("unlabelled").score == "nan"
    ):
        print(f"note: {_UNTRAINED}")
    default, options = GateOptions(DEFAULT).for_task(classifier.task), options.for_task(classifier.task)
    _check_wanted(["--score"] if options.score != default.score else [], calibration)
    for remark in classifier.remarks:
        print(f"note: {remark}")
    source = None if calibration is None else as_source(calibration, classifier.input, reading=options.reading)
    temperature = options.temperature if isinstance(options.temperature, float) else 1.0
    seen = sample(source, classifier.input, classifier.labels, options.reading) if source is not None else None
    images: Images = seen.images if seen else noise(classifier.input)
    examined = examine(classifier, images[:EXAMINED])
    examined.check_scores(options.parts)
    model, manifest = assemble(examined, name or out.resolve().name, {"energy": {"temperature": temperature}})
    gated = warning = note = None
    fitted: Mapping[str, Detector] = {}
    if source is not None:
        gated = fit_gate(model, manifest, source, options, seen=seen)
        manifest, images, warning, note = gated.manifest, gated.images, gated.warning, gated.note
        fitted = gated.fitted
    sealed = OnnxRuntimeCpu(seal(model, manifest))
    found = findings(examined, seen, gated)
    verification = verify(examined, sealed, manifest, images, fitted)
    provenance = {
        "versions": _versions(classifier.framework),
        "training": classifier.training,
        "verification": dataclasses.asdict(verification),
        "checks": found.provenance(),
        **manifest.provenance,
    }
    manifest = dataclasses.replace(manifest, provenance=provenance)
    if precision != "fp32":
        chosen = GateOptions.of(manifest, options.reading, allow_leakage=options.allow_leakage)
        converted = convert(model, manifest, precision, source, chosen, int8)
        model, manifest, warning = converted.model, converted.manifest, converted.warning
    bundle.write(out, manifest, making.files(model, manifest, resize=resize), documents(manifest))
    print(f"{out}: verified against {classifier.framework} on {verification}")
    if precision != "fp32":
        print(precision_text(manifest))
    print("\n".join(found.lines()), end="\n" if any(found.lines()) else "")
    print_remarks(note=note, warning=warning)
    print(gate_text(manifest))
    return manifest


def _versions(framework: str) -> dict[str, str]:
    libraries = ("torch", "onnxscript", "torchvision", "timm", "transformers") if framework == "torch" else ()
    versions = {"oodgate": runtime.__version__, "python": platform.python_version()}
    for name in ("onnx", "onnxruntime", "numpy", "pillow", *libraries):
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions
