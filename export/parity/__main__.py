"""``python -m export.parity A B SOURCE``: two artifacts of one classifier, image by image."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import onnx

from export.evaluate.__main__ import parse_ood
from export.exceptions import ExportError
from export.from_torch.classifier import from_checkpoint
from export.parity.comparison import Artifact, check_comparable, compare_artifacts
from export.parity.plot import scatter
from export.parity.report import report
from export.parity.torch_engine import TorchEngine
from runtime.command import run
from runtime.gate import Gate
from train.data import add_strict_option


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m export.parity",
        description="Compare two artifacts of one classifier image by image, such as its fp32 and its int8 bundle: logits, "
        "scores, predicted classes, and decisions, each at its own threshold and both at either's; and, with --ood, how "
        "well both detect.",
        epilog="Example: python -m export.parity bundles/cifar10 bundles/cifar10-int8 val.tar@2/2 --ood textures=dtd/",
    )
    parser.add_argument(
        "a",
        metavar="A",
        type=Path,
        help="a bundle; or a checkpoint of python -m train, run by torch with B's scores and gate",
    )
    parser.add_argument("b", metavar="B", type=Path, help="a bundle")
    parser.add_argument("source", metavar="SOURCE", help="in-distribution images")
    parser.add_argument("--ood", action="append", default=[], metavar="NAME=SOURCE", help="other images; repeatable")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables here")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="write a scatter plot of the gates' scores here, as PNG"
    )
    add_strict_option(parser)
    parser.add_argument("--threads", type=int, default=0, help="engine threads (default: one a physical core)")
    return parser


def _artifacts(args: argparse.Namespace) -> tuple[Artifact, Artifact]:
    second = Gate.load(args.b, threads=args.threads)
    b = Artifact(str(args.b), second.engine, second.manifest)
    if not args.a.is_file():
        first = Gate.load(args.a, threads=args.threads)
        return Artifact(str(args.a), first.engine, first.manifest), b
    classifier = from_checkpoint(args.a)
    check_comparable(classifier, b.manifest)
    model = onnx.load_from_string(second.bundle.model)
    engine = TorchEngine(classifier, model, b.manifest, second.engine.signature)
    return Artifact(str(args.a), engine, b.manifest), b


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    ood = parse_ood(args.ood)
    for option, file in (("--json", args.json), ("--markdown", args.markdown), ("--plot", args.plot)):
        if file and not file.parent.is_dir():
            raise ExportError(f"{option} {file}: there is no directory {file.parent}")
    a, b = _artifacts(args)
    compared = compare_artifacts(a, b, args.source, ood, strict=args.strict)
    for warning in compared.warnings:
        print(f"warning: {warning}")
    print(report(compared.figures), end="")
    if args.json:
        args.json.write_text(json.dumps(compared.figures.to_dict(), indent=1) + "\n")
    if args.markdown:
        args.markdown.write_text(report(compared.figures, markdown=True))
    if args.plot:
        args.plot.write_bytes(scatter(a, b, compared))
    return 0


if __name__ == "__main__":
    run(main)
