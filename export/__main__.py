"""``python -m export --checkpoint CKPT --out BUNDLE``: a trained classifier becomes a bundle."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from export import origin
from export.arguments import add_leakage_option, parse_ood
from export.calibrate.arguments import add_gate_options, gate_options
from export.convert.options import add_precision_options, int8_options
from export.evaluate.bundles import evaluate_sources
from export.exceptions import ExportError
from export.exporting import check_options, export
from export.from_onnx.options import add_onnx_options
from export.options import EXAMPLES, add_model_options, given
from export.report.evaluation import summary, tables
from export.tensorrt.attach import add_engine
from export.tensorrt.build import check_buildable
from export.tensorrt.options import add_tensorrt_options, build_options
from runtime import bundle
from runtime.command import prog, run
from runtime.gate import load_calibrated
from train.data import Reading, add_reading_options, check


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
    parser.add_argument(
        "--with-resize",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="write pipeline.onnx too: the same behind the bundle's own resize, for images of any size in any language "
        "(default: yes; the weights are in both files)",
    )
    parser.add_argument("--name", help="what decisions call the model (default: the directory's name)")

    add_gate_options(parser, as_before=False)
    add_precision_options(parser)

    evaluation = parser.add_argument_group("evaluation, into the card")
    evaluation.add_argument(
        "--id",
        metavar="SOURCE",
        help="in-distribution images to evaluate the bundle on, and to compare those of --ood with",
    )
    evaluation.add_argument(
        "--ood", action="append", default=[], metavar="NAME=SOURCE", help="other images; repeatable"
    )

    add_leakage_option(parser)
    add_reading_options(parser)
    add_tensorrt_options(parser)
    add_onnx_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    ood = parse_ood(args.ood)
    if ood and not args.id:
        raise ExportError("--ood goes with --id: detection is measured between the two")
    if args.id and not args.calibration:
        raise ExportError("--id needs --calibration: without a threshold there is no gate to evaluate")
    int8 = int8_options(args, tensorrt=args.tensorrt is not None)
    options = gate_options(args)
    check_options(options, args.calibration)
    engine = build_options(args)
    if engine and args.precision == "bf16":
        raise ExportError(
            "--precision bf16 does not go with --tensorrt: only OpenVINO computes in it; take fp16 or int8"
        )
    if engine:
        check_buildable(engine)
    for source in filter(None, (args.id, *ood.values())):
        check(source)
    classifier = origin.read(origin.Place.of(args), given(args))
    export(
        classifier,
        args.out,
        options,
        calibration=args.calibration,
        name=args.name,
        precision=args.precision,
        int8=int8,
        resize=args.with_resize,
    )
    if args.id:
        (evaluated,) = evaluate_sources(
            [load_calibrated(args.out)],
            args.id,
            ood,
            allow_leakage=args.allow_leakage,
            reading=Reading.of(args),
        )
        bundle.write_documents(args.out, evaluated.documents())
        print(summary(evaluated.figures), tables(evaluated.figures), sep="\n")
    if engine:
        print(add_engine(args.out, engine))
    return 0


if __name__ == "__main__":
    run(main)
