"""``python -m export --checkpoint CKPT --out BUNDLE``: a trained classifier becomes a bundle."""

from __future__ import annotations

import argparse
import dataclasses
import platform
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import runtime
from export import origin
from export.arguments import add_leakage_option, parse_ood, print_remarks
from export.calibrate.gating import fit_gate
from export.calibrate.options import AUTO, GateOptions, add_gate_options
from export.checks.examination import EXAMINED, examine
from export.checks.findings import findings
from export.checks.sample import noise, sample
from export.classifier import Classifier, assemble
from export.convert.conversion import convert
from export.convert.int8 import Int8Options
from export.convert.options import add_precision_options, int8_options
from export.detectors.base import BASE
from export.evaluate.bundles import evaluate_sources
from export.exceptions import ExportError
from export.from_onnx.options import add_onnx_options
from export.head import seal
from export.options import EXAMPLES, add_model_options, given
from export.report.card import documents, precision_text
from export.report.evaluation import summary, table
from export.report.guarantee import gate_text
from export.tensorrt.attach import add_engine
from export.tensorrt.build import check_buildable
from export.tensorrt.options import add_tensorrt_options, build_options
from export.verification import verify
from runtime import bundle
from runtime.command import prog, run
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from runtime.gate import Gate
from runtime.manifest import Manifest
from train.data import Images, Reading, add_reading_options, check


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog(__package__),
        description="Export a classifier as one ONNX file with preprocessing, out-of-distribution scores and the\n"
        "accept/reject decision inside, calibrate its threshold, verify it against the original and write a\n"
        "bundle. A SOURCE of images, with labels or without, is a folder, an archive or a table of any kind named\n"
        "below.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model_options(parser)
    parser.add_argument("--out", required=True, type=Path, metavar="BUNDLE", help="directory to write")
    parser.add_argument("--name", help="what decisions call the model (default: the directory's name)")

    add_gate_options(parser, as_before=False)
    add_precision_options(parser)

    evaluation = parser.add_argument_group("evaluation, into the card")
    evaluation.add_argument("--id", metavar="SOURCE", help="in-distribution images for --ood to be compared with")
    evaluation.add_argument(
        "--ood", action="append", default=[], metavar="NAME=SOURCE", help="other images; repeatable"
    )

    add_leakage_option(parser)
    add_reading_options(parser)
    add_tensorrt_options(parser)
    add_onnx_options(parser)
    return parser


def _versions(framework: str) -> dict[str, str]:
    libraries = ("torch", "onnxscript", "torchvision", "timm", "transformers") if framework == "torch" else ()
    versions = {"oodgate": runtime.__version__, "python": platform.python_version()}
    for name in ("onnx", "onnxruntime", "numpy", "pillow", *libraries):
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def _export(classifier: Classifier, args: argparse.Namespace, options: GateOptions, int8: Int8Options) -> Manifest:
    """Assemble, calibrate, verify, write."""
    for remark in classifier.remarks:
        print(f"note: {remark}")
    name = args.name or args.out.resolve().name
    temperature = options.temperature if isinstance(options.temperature, float) else 1.0
    seen = sample(args.calibration, classifier.input, classifier.labels, options.reading) if args.calibration else None
    images: Images = seen.images if seen else noise(classifier.input)
    examined = examine(classifier, images[:EXAMINED])
    examined.check_scores(options.parts)
    model, manifest = assemble(examined, name, {"energy": {"temperature": temperature}})
    gated = warning = note = None
    if args.calibration:
        gated = fit_gate(model, manifest, args.calibration, options)
        manifest, images, warning, note = gated.manifest, gated.images, gated.warning, gated.note
    sealed = OnnxRuntimeCpu(seal(model, manifest))
    found = findings(examined, seen, gated)
    verification = verify(examined, sealed, manifest, images)
    provenance = {
        "versions": _versions(classifier.framework),
        "training": classifier.training,
        "verification": dataclasses.asdict(verification),
        "checks": found.provenance(),
    }
    manifest = dataclasses.replace(manifest, provenance=provenance)
    if args.precision != "fp32":
        converted = convert(model, manifest, args.precision, args.calibration, options, int8)
        model, manifest, warning = converted.model, converted.manifest, converted.warning
    bundle.write(args.out, manifest, {bundle.MODEL: seal(model, manifest)}, documents(manifest))
    print(
        f"{args.out}: verified against {classifier.framework} on {verification.images} images: logits differ by at most "
        f"{verification.max_logit_difference:.2g}, scores by {max(verification.max_score_difference.values()):.2g} "
        f"(relative), decisions by {verification.decision_flips}"
    )
    if args.precision != "fp32":
        print(precision_text(manifest))
    print("\n".join(found.lines()), end="\n" if any(found.lines()) else "")
    print_remarks(note=note, warning=warning)
    return manifest


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    ood = parse_ood(args.ood)
    if bool(ood) != bool(args.id):
        raise ExportError("--id and --ood go together: detection is measured between the two")
    if ood and not args.calibration:
        raise ExportError("--ood needs --calibration: without a threshold there is no gate to evaluate")
    int8 = int8_options(args, tensorrt=args.tensorrt is not None)
    options = GateOptions.of_arguments(args)
    options.check(tuple(BASE))
    engine = build_options(args)
    if engine:
        check_buildable(engine)
    for source in filter(None, (args.id, *ood.values())):
        check(source)
    if options.promises_labels and not args.calibration:
        raise ExportError("--max-error and --prediction-sets need --calibration: labelled images test them")
    if options.chooses and not args.calibration:
        raise ExportError(f"{AUTO} needs --calibration: it chooses by in-distribution images")
    manifest = _export(origin.read(args, given(args)), args, options, int8)
    print(gate_text(manifest))
    if ood:
        (evaluated,) = evaluate_sources(
            [Gate.load(args.out, engine="onnxruntime-cpu")],
            args.id,
            ood,
            allow_leakage=args.allow_leakage,
            reading=Reading.of(args),
        )
        bundle.write_documents(args.out, evaluated.documents())
        print(summary(evaluated.figures))
        print(table(evaluated.figures))
    if engine:
        print(add_engine(args.out, engine))
    return 0


if __name__ == "__main__":
    run(main)
