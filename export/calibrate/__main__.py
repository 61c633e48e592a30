"""``python -m export.calibrate BUNDLE [SOURCE]``: fit the gate again on other images, or move its threshold."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import onnx

from export.arguments import add_leakage_option, add_run_options, print_remarks
from export.calibrate.gating import fit_gate
from export.calibrate.options import GateOptions, add_gate_options
from export.exceptions import ExportError
from export.report.guarantee import gate_text
from export.rewriting import rewrite
from runtime import bundle
from runtime.command import prog, run
from runtime.gate import load_engine
from runtime.manifest import Manifest
from train.data import Reading

# Options that stay as they were where they are not given.
_AS_BEFORE = (
    *("score", "alpha", "temperature", "merge", "class_conditional"),
    *("guarantee", "confidence", "max_error", "select", "prediction_sets"),
)


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


def _options(args: argparse.Namespace, manifest: Manifest) -> GateOptions:
    """The options given, and what the bundle has for those that were not."""
    given = {name: value for name in _AS_BEFORE if (value := getattr(args, name)) is not None}
    fixed = {"aux": tuple(args.aux), "reading": Reading.of(args), "allow_leakage": args.allow_leakage}
    return dataclasses.replace(GateOptions.of(manifest), **given, **fixed)


def _moved(manifest: Manifest, args: argparse.Namespace) -> Manifest:
    """The manifest with its gate at another operating point."""
    others = (*(getattr(args, name) for name in _AS_BEFORE if name != "alpha"), *args.aux)
    if args.alpha is None or any(option is not None for option in others):
        raise ExportError("without SOURCE only --alpha can be given: the rest is fitted on images")
    if manifest.gate is None:
        raise ExportError("the bundle is not calibrated yet; give a SOURCE of in-distribution images")
    return dataclasses.replace(manifest, gate=manifest.gate.at(args.alpha))


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    loaded = bundle.Bundle.load(args.bundle)
    loaded.check_graph(load_engine(loaded, threads=args.threads).signature)
    model, warning, note = onnx.load_from_string(loaded.model), None, None
    if args.source is None:
        manifest = _moved(loaded.manifest, args)
    else:
        options = _options(args, loaded.manifest)
        gated = fit_gate(model, loaded.manifest, args.source, options, threads=args.threads)
        manifest, warning, note = gated.manifest, gated.warning, gated.note
    dropped = rewrite(args.bundle, loaded.manifest, model, manifest)
    print(f"{args.bundle}: {gate_text(manifest)}")
    if dropped:
        print(f"dropped, as made for the gate before: {', '.join(dropped)}")
    print_remarks(note=note, warning=warning)
    return 0


if __name__ == "__main__":
    run(main)
