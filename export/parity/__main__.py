"""``python -m export.parity A B SOURCE``: two artifacts of one classifier, image by image."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import onnx

from export.arguments import add_run_options, check_writable, parse_ood
from export.exceptions import ExportError
from export.parity.comparison import Artifact, check_comparable, compare_artifacts
from export.parity.reference import ReferenceEngine
from export.parity.report import report, scatter
from runtime.command import prog, run
from runtime.gate import Gate
from train.data import Reading


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog(__package__),
        description="Compare two artifacts of one classifier image by image, such as its fp32 and its int8 bundle: logits, "
        "scores, predicted classes, and decisions, each at its own threshold and both at either's; and, with --ood, how "
        "well both detect.",
        epilog="Example: %(prog)s bundles/cifar10 bundles/cifar10-int8 val.tar@2/2 --ood textures=dtd/",
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
    add_run_options(parser)
    return parser


def _artifacts(args: argparse.Namespace) -> tuple[Artifact, Artifact]:
    second = Gate.load(args.b, threads=args.threads)
    b = Artifact(str(args.b), second.engine, second.manifest)
    if not args.a.is_file():
        first = Gate.load(args.a, threads=args.threads)
        return Artifact(str(args.a), first.engine, first.manifest), b
    return _checkpoint(args.a, second), b


def _checkpoint(path: Path, gate: Gate) -> Artifact:
    """A checkpoint run by torch, which two bundles are compared without, with the scores and the gate of a bundle."""
    try:
        from export.from_torch.checkpoint import from_checkpoint
    except ModuleNotFoundError as error:
        raise ExportError(f"{path}: a checkpoint needs {error.name}: pip install 'oodgate[export]'") from error
    classifier = from_checkpoint(path)
    check_comparable(classifier, gate.manifest)
    model = onnx.load_from_string(gate.bundle.model)
    return Artifact(str(path), ReferenceEngine(classifier, model, gate.manifest, gate.engine.signature), gate.manifest)


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    ood = parse_ood(args.ood)
    check_writable({"--json": args.json, "--markdown": args.markdown, "--plot": args.plot})
    a, b = _artifacts(args)
    compared = compare_artifacts(a, b, args.source, ood, reading=Reading.of(args))
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
