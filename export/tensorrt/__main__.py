"""``python -m export.tensorrt BUNDLE --tensorrt rtx|full``: an engine for a bundle that is there."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from export.tensorrt.attach import add_engine
from export.tensorrt.options import add_tensorrt_options, build_options
from runtime.command import run


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m export.tensorrt",
        description="Build a TensorRT or TensorRT-RTX engine from a bundle's graph, check it, and put it into the bundle.",
        epilog="Example: python -m export.tensorrt bundles/cifar10 --tensorrt rtx --sm 89,120",
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="directory that python -m export wrote")
    add_tensorrt_options(parser.add_argument_group("engine"), required=True)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    options = build_options(args)
    assert options is not None  # --tensorrt is required
    print(add_engine(args.bundle, options))
    return 0


if __name__ == "__main__":
    run(main)
