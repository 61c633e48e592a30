"""``python -m export.tensorrt BUNDLE --tensorrt rtx|full``: an engine for a bundle that is there; ``--check`` its engines."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from export.exceptions import ExportError
from export.tensorrt.attach import add_engine, check_engines
from export.tensorrt.options import add_tensorrt_options, build_options
from runtime.bundle import Bundle
from runtime.command import prog, run


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog(__package__),
        description="Build a TensorRT or TensorRT-RTX engine from a bundle's graph, check it, and put it into the bundle.",
        epilog="Example: %(prog)s bundles/cifar10 --tensorrt rtx --sm 89,120",
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="directory that python -m export wrote")
    add_tensorrt_options(parser)
    parser.add_argument("--check", action="store_true", help="check the engines that are there; needs no GPU")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    options = build_options(args)
    if (options is None) != args.check:
        raise ExportError("give either --tensorrt rtx or full, or --check")
    lines = [add_engine(args.bundle, options)] if options else check_engines(Bundle.load(args.bundle))
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    run(main)
