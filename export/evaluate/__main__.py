"""``python -m export.evaluate BUNDLE .. --id SOURCE [--ood NAME=SOURCE ..]``: how well the gate separates."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from export.arguments import add_leakage_option, add_run_options, check_writable, parse_named, parse_ood
from export.evaluate.bundles import evaluate_sources
from export.evaluate.protocols import PROTOCOLS, Protocol
from export.report.evaluation import comparison, markdown, summary, tables
from runtime.bundle import write_documents
from runtime.command import prog, run
from runtime.gate import load_calibrated
from train.data import Reading


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog(__package__),
        description="Evaluate bundles as they are deployed: accuracy and acceptance on images of their own classes, risk "
        "against coverage, and for every score and OOD set AUROC, AUPR and FPR95, the last in both conventions in use: "
        "ID-positive (share of OOD images accepted where 95 % of ID images are) and OOD-positive (share of ID images "
        "flagged where 95 % of OOD images are); all with 95 % intervals. Use images that were neither trained nor "
        "calibrated on: images that the bundle was trained, fitted or calibrated on are recognised and refused.",
        epilog="Example: %(prog)s bundles/cifar10 --id val.tar@2/2 --ood textures=dtd/ --shifted blur=blurred/; "
        "%(prog)s bundles/cifar10 --protocol openood-v1.5-cifar10 --data ~/OpenOOD/data",
    )
    parser.add_argument("bundles", metavar="BUNDLE", nargs="+", type=Path, help="several are compared")
    parser.add_argument(
        "--id", metavar="SOURCE", help="images of the model's classes; with labels, accuracy is told too"
    )
    parser.add_argument(
        "--ood",
        action="append",
        default=[],
        metavar="NAME=SOURCE",
        help="other images, without which there is nothing to tell apart; repeatable",
    )
    parser.add_argument(
        "--shifted",
        action="append",
        default=[],
        metavar="NAME=SOURCE",
        help="images of the model's classes that are shifted: blurred, noisy, of another camera. How many the gate rejects, "
        "how many of these the model classifies right, and detection with these among the known images (full spectrum); with "
        "--protocol also the NAME alone of one of its sets, such as imagenet_v2. Repeatable",
    )
    group = parser.add_argument_group(
        "a benchmark's protocol",
        "In place of --id and --ood: its test lists, near and far OOD sets, and a markdown line a score in the leaderboard's "
        "columns. What is not on disk is named, and the line marked incomplete. Calibrate with its validation list: "
        "ROOT/benchmark_imglist/cifar10/val_cifar10.txt is a SOURCE.",
    )
    group.add_argument("--protocol", choices=PROTOCOLS, help="OpenOOD v1.5")
    group.add_argument(
        "--data",
        type=Path,
        metavar="ROOT",
        help="the folder of benchmark_imglist/, images_classic/ and images_largescale/",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here; a list for several bundles")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables here")
    parser.add_argument("--card", action="store_true", help="write the figures and plots into each bundle's card")
    add_leakage_option(parser)
    add_run_options(parser)
    return parser


def _check_options(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Make sure that there is a protocol and its data, or known and other images."""
    if bool(args.protocol) != bool(args.data):
        parser.error("--protocol and --data go together: the lists of images, and the folder that they lie in")
    if args.protocol and (args.id or args.ood):
        parser.error(f"--protocol {args.protocol} has its own known and other images: leave out --id and --ood")
    if not (args.id or args.protocol):
        parser.error("the following arguments are required: --id; or --protocol and --data")


def _sources(args: argparse.Namespace, protocol: Protocol | None) -> tuple[str, dict[str, str], dict[str, str]]:
    """The known images, the others and the shifted ones by name."""
    if protocol is None:
        return args.id, parse_ood(args.ood), parse_named("--shifted", args.shifted)
    own = {name: protocol.source(args.data, name) for name in protocol.shifted}
    shifted = [f"{option}={own[option]}" if option in own else option for option in args.shifted]
    unknown = {name: protocol.source(args.data, name) for name in protocol.ood}
    return protocol.source(args.data, protocol.known), unknown, parse_named("--shifted", shifted)


def main(argv: Sequence[str] | None = None) -> int:
    parser = _parser()
    args = parser.parse_args(argv)
    _check_options(parser, args)
    protocol = PROTOCOLS[args.protocol] if args.protocol else None
    check_writable({"--json": args.json, "--markdown": args.markdown})
    known, unknown, shifted = _sources(args, protocol)
    gates = [load_calibrated(path, threads=args.threads) for path in args.bundles]
    if protocol:
        for gate in gates:
            protocol.check(args.data, gate.manifest)
    evaluated = evaluate_sources(
        gates,
        known,
        unknown,
        shifted=shifted,
        protocol=protocol,
        allow_leakage=args.allow_leakage,
        reading=Reading.of(args),
    )
    figures = {str(path): each.figures for path, each in zip(args.bundles, evaluated, strict=True)}
    for path, found in figures.items():
        print(*([f"{path}:"] if len(figures) > 1 else []), summary(found), tables(found), sep="\n", end="\n\n")
    if len(figures) > 1 and unknown:
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
