"""``python -m export.calibrate BUNDLE [SOURCE]``: fit the gate again on other images, or move its threshold."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from export.arguments import add_leakage_option, add_run_options
from export.calibrate.arguments import add_gate_options
from export.calibrate.recalibration import AS_BEFORE, recalibrate
from runtime.command import prog, run
from train.data import Reading


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog(__package__),
        description="Calibrate a bundle's gate by split conformal prediction on in-distribution images that the model was "
        "not trained on; without SOURCE, move the threshold to a stored operating point. The bundle is re-written: "
        "threshold and manifest are sealed into model.onnx too. Figures of an earlier evaluation and engines built from "
        "the earlier model.onnx no longer hold and are dropped; other files stay.",
        epilog="Example: %(prog)s bundles/cifar10 val.tar@1/2 --alpha 0.01",
    )
    parser.add_argument("bundle", metavar="BUNDLE", type=Path)
    parser.add_argument(
        "source", metavar="SOURCE", nargs="?", help="images, with labels or without; SOURCE@1/2 is half of them"
    )
    add_gate_options(parser, as_before=True)
    add_leakage_option(parser)
    add_run_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    given = {name: value for name in AS_BEFORE if (value := getattr(args, name)) is not None}
    recalibrate(
        args.bundle,
        args.source,
        given | {name: value for name in ("aux", "fit") if (value := getattr(args, name))},
        reading=Reading.of(args),
        allow_leakage=args.allow_leakage,
        threads=args.threads,
    )
    return 0


if __name__ == "__main__":
    run(main)
