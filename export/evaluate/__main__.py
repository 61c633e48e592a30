"""``python -m export.evaluate BUNDLE .. --id SOURCE --ood NAME=SOURCE ..``: how well the gate separates."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from export.arguments import add_leakage_option, add_run_options, check_writable, parse_ood
from export.evaluate.bundles import evaluate_sources
from export.report.evaluation import comparison, markdown, summary, table
from runtime.bundle import write_documents
from runtime.command import prog, run
from runtime.gate import Gate
from train.data import Reading


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog(__package__),
        description="Evaluate bundles as they are deployed: accuracy and acceptance on images of their own classes, risk "
        "against coverage, and for every score and OOD set AUROC, AUPR and FPR95, the last in both conventions in use: "
        "ID-positive (share of OOD images accepted where 95 %% of ID images are) and OOD-positive (share of ID images "
        "flagged where 95 %% of OOD images are); all with 95 %% intervals. Use images that were neither trained nor "
        "calibrated on: images that the bundle was trained, fitted or calibrated on are recognised and refused.",
        epilog="Example: %(prog)s bundles/cifar10 --id val.tar@2/2 --ood textures=dtd/ --json out.json",
    )
    parser.add_argument("bundles", metavar="BUNDLE", nargs="+", type=Path, help="several are compared")
    parser.add_argument(
        "--id", required=True, metavar="SOURCE", help="images of the model's classes; with labels, accuracy is told too"
    )
    parser.add_argument("--ood", required=True, action="append", metavar="NAME=SOURCE", help="other images; repeatable")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here; a list for several bundles")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables here")
    parser.add_argument("--card", action="store_true", help="write the figures and plots into each bundle's card")
    add_leakage_option(parser)
    add_run_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    sources = parse_ood(args.ood)
    check_writable({"--json": args.json, "--markdown": args.markdown})
    gates = [Gate.load(path, engine="onnxruntime-cpu", threads=args.threads) for path in args.bundles]
    evaluated = evaluate_sources(gates, args.id, sources, allow_leakage=args.allow_leakage, reading=Reading.of(args))
    figures = {str(path): each.figures for path, each in zip(args.bundles, evaluated, strict=True)}
    for path, found in figures.items():
        print(*([f"{path}:"] if len(figures) > 1 else []), summary(found), table(found), sep="\n", end="\n\n")
    if len(figures) > 1:
        print(comparison(figures))
    if args.json:
        plain = [{"bundle": path, **found.to_dict()} for path, found in figures.items()]
        args.json.write_text(json.dumps(plain if len(plain) > 1 else plain[0], indent=1) + "\n")
    if args.markdown:
        args.markdown.write_text(markdown(figures))
    if args.card:
        for path, each in zip(args.bundles, evaluated, strict=True):
            write_documents(path, each.documents())
    return 0


if __name__ == "__main__":
    run(main)
