"""``python -m export.convert BUNDLE --precision bf16|fp16|int8 --out BUNDLE``: a bundle of another precision."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import onnx

from export import making
from export.arguments import add_leakage_option, add_run_options, print_remarks
from export.calibrate.arguments import print_dropped
from export.calibrate.options import GateOptions
from export.convert.conversion import convert
from export.convert.options import add_precision_options, int8_options
from export.report.card import documents, precision_text
from export.report.guarantee import gate_text
from runtime import bundle
from runtime.command import prog, run
from runtime.gate import load_engine
from train.data import Reading, check


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog(__package__),
        description="Write a bundle of another precision: the layers before the penultimate activations in bf16, fp16 or "
        "int8, scores and gate in fp32 as before. A threshold belongs to one file, so the gate is "
        "calibrated anew, on the new file's own scores.",
        epilog="Example: %(prog)s bundles/cifar10 --precision int8 --calibration val.tar@1/2 "
        "--out bundles/cifar10-int8",
    )
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="of fp32")
    parser.add_argument("--out", required=True, type=Path, metavar="BUNDLE", help="directory to write")
    parser.add_argument(
        "--calibration", metavar="SOURCE", help="in-distribution images; without any, fp16 rejects everything"
    )
    add_precision_options(parser, ("bf16", "fp16", "int8"))
    add_leakage_option(parser)
    add_run_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    int8 = int8_options(args)
    if args.calibration:
        check(args.calibration)
    loaded = bundle.Bundle.load(args.bundle)
    loaded.check_graph(load_engine(loaded, threads=args.threads).signature)
    options = GateOptions.of(loaded.manifest, Reading.of(args), allow_leakage=args.allow_leakage)
    model = onnx.load_from_string(loaded.model)
    converted = convert(model, loaded.manifest, args.precision, args.calibration, options, int8, threads=args.threads)
    resize = bundle.PIPELINE in loaded.manifest.files
    files = making.files(converted.model, converted.manifest, resize=resize, threads=args.threads)
    written = bundle.write(args.out, converted.manifest, files, documents(converted.manifest))
    print(f"{args.out}: {args.precision}, {len(written.model):,} bytes instead of {len(loaded.model):,}")
    print(precision_text(written.manifest))
    print(gate_text(written.manifest))
    if not args.calibration:
        print_dropped(loaded.manifest)
    print_remarks(warning=converted.warning)
    return 0


if __name__ == "__main__":
    run(main)
