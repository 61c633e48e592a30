"""``python -m export --checkpoint CKPT --out BUNDLE``: a trained classifier becomes a bundle."""

from __future__ import annotations

import argparse
import dataclasses
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt

import runtime
from export.arguments import add_leakage_option, parse_ood, print_remarks, side_or_size
from export.calibrate.gating import fit_gate
from export.calibrate.options import AUTO, GateOptions, add_gate_options
from export.classifier import Classifier, assemble
from export.convert.conversion import convert
from export.convert.int8 import Int8Options
from export.convert.options import add_precision_options, int8_options
from export.detectors.base import BASE
from export.evaluate.bundles import evaluate_sources
from export.exceptions import ExportError
from export.from_torch.classifier import from_checkpoint, from_factory
from export.head import seal
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
from runtime.manifest import Colour, InputSpec, Interpolation, Manifest, Resize, Task
from train.data import Images, Reading, add_reading_options, check
from train.data.labels.class_names import read_class_names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog(__package__),
        description="Export a classifier as one ONNX file with preprocessing, out-of-distribution scores and the "
        "accept/reject decision inside, calibrate its threshold, verify it against torch and write a bundle. A "
        "SOURCE of images, with labels or without, is a folder, an archive or a table of any kind named below.",
        epilog="Example: %(prog)s --checkpoint runs/first/checkpoint.safetensors --calibration val.tar@1/2 "
        "--out bundles/first",
    )
    parser.add_argument("--checkpoint", required=True, type=Path, help="of python -m train; or weights, with --model")
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

    foreign = parser.add_argument_group("any torch classifier")
    foreign.add_argument("--model", metavar="PACKAGE.MODULE:FACTORY", help="called without arguments for an nn.Module")
    foreign.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="names in the logits' order: a line each, JSON (id2label, a list) or index,name",
    )
    foreign.add_argument("--size", metavar="SIDE|HxW", help="the input's size in pixels")
    foreign.add_argument("--mean", type=float, nargs=3, metavar=("R", "G", "B"), help="of pixels in [0, 1]")
    foreign.add_argument("--std", type=float, nargs=3, metavar=("R", "G", "B"))
    foreign.add_argument(
        "--resize-to",
        metavar="SIDE|HxW",
        help="before the centre is cut: 256 for ImageNet's habit, 235 = floor(224 / 0.95) for timm's crop_pct of 0.95",
    )
    foreign.add_argument(
        "--resize",
        choices=get_args(Resize),
        help="default: shortest for a --resize-to of one side, squash for HxW",
    )
    foreign.add_argument(
        "--interpolation", choices=get_args(Interpolation), default="bilinear", help="default: %(default)s"
    )
    foreign.add_argument(
        "--colour",
        choices=get_args(Colour),
        default="srgb",
        help="of images with an ICC profile: converted to sRGB, or the numbers as they are; default: %(default)s",
    )
    foreign.add_argument("--task", choices=get_args(Task), default="multiclass", help="default: %(default)s")
    return parser


def _classifier(args: argparse.Namespace) -> Classifier:
    if not args.model:
        for option in ("labels", "size", "mean", "std"):
            if getattr(args, option) is not None:
                raise ExportError(f"--{option} goes with --model; a checkpoint of ours says it itself")
        return from_checkpoint(args.checkpoint)
    missing = [option for option in ("labels", "size", "mean", "std") if getattr(args, option) is None]
    if not (args.resize or args.resize_to):
        missing.append("resize-to")
    if missing:
        raise ExportError(f"--model needs --{missing[0]} too: nothing else says how the model was trained")
    try:
        labels = read_class_names(args.labels)
        height, _, width = args.size.partition("x")
        resize_to = side_or_size(args.resize_to) if args.resize_to else None
        spec = InputSpec(
            height=int(height),
            width=int(width or height),
            mean=tuple(args.mean),
            std=tuple(args.std),
            resize=args.resize or ("squash" if isinstance(resize_to, tuple) else "shortest"),
            resize_to=resize_to,
            interpolation=args.interpolation,
            colour=args.colour,
        )
    except ValueError as error:
        raise ExportError(f"the options of --model: {error}") from error
    return from_factory(args.model, args.checkpoint, labels, spec, args.task)


def _versions() -> dict[str, str]:
    packages = {name: version(name) for name in ("torch", "onnx", "onnxscript", "onnxruntime", "numpy", "pillow")}
    return {"oodgate": runtime.__version__, "python": platform.python_version(), **packages}


def _export(classifier: Classifier, args: argparse.Namespace, options: GateOptions, int8: Int8Options) -> Manifest:
    """Assemble, calibrate, verify, write."""
    name = args.name or args.out.resolve().name
    temperature = options.temperature if isinstance(options.temperature, float) else 1.0
    model, manifest = assemble(classifier, name, {"energy": {"temperature": temperature}})
    images: Images = _noise(classifier.input)
    warning = note = None
    if args.calibration:
        gated = fit_gate(model, manifest, args.calibration, options)
        manifest, images, warning, note = gated.manifest, gated.images, gated.warning, gated.note
    sealed = OnnxRuntimeCpu(seal(model, manifest))
    verification = verify(classifier, sealed, manifest, images)
    provenance = {
        "versions": _versions(),
        "training": classifier.training,
        "verification": dataclasses.asdict(verification),
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
    print_remarks(note=note, warning=warning)
    return manifest


def _noise(spec: InputSpec) -> npt.NDArray[np.uint8]:
    """Images to verify an export on when there are no others."""
    return np.random.default_rng(0).integers(0, 256, (64, spec.height, spec.width, 3), dtype=np.uint8)


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
    manifest = _export(_classifier(args), args, options, int8)
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
