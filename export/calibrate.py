"""``python -m export.calibrate BUNDLE [SOURCE]``: fit the gate again on other images, or move its threshold."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import onnx

from export.artifact import seal
from export.card import FIGURES, documents
from export.exceptions import ExportError
from export.gating import fit_gate
from export.options import GateOptions, add_gate_options
from export.promise import gate_text
from runtime import bundle
from runtime.command import run
from runtime.gate import load_engine
from runtime.manifest import Manifest


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m export.calibrate",
        description="Calibrate a bundle's gate by split conformal prediction on in-distribution images that the model was "
        "not trained on; without SOURCE, move the threshold to a stored operating point. The bundle is re-written: "
        "threshold and manifest are sealed into model.onnx too. Figures of an earlier evaluation and engines built from "
        "the earlier model.onnx no longer hold and are dropped; other files stay.",
        epilog="Example: python -m export.calibrate bundles/cifar10 val.tar@1/2 --alpha 0.01",
    )
    parser.add_argument("bundle", metavar="BUNDLE", type=Path)
    parser.add_argument(
        "source", metavar="SOURCE", nargs="?", help="images: DIR, TAR or .npz; SOURCE@1/2 is half of them"
    )
    add_gate_options(parser.add_argument_group("gate"), as_before=True)
    parser.add_argument("--threads", type=int, default=0, help="engine threads (default: one a physical core)")
    return parser


def _options(args: argparse.Namespace, manifest: Manifest) -> GateOptions:
    """The options given, and what the bundle has for those that were not."""
    names = ("score", "alpha", "temperature", "merge", "class_conditional")
    given = {name: value for name in names if (value := getattr(args, name)) is not None}
    return dataclasses.replace(GateOptions.of(manifest), **given, aux=tuple(args.aux))


def _moved(manifest: Manifest, args: argparse.Namespace) -> Manifest:
    """The manifest with its gate at another operating point."""
    others = (args.score, args.temperature, args.merge, args.class_conditional, *args.aux)
    if args.alpha is None or any(option is not None for option in others):
        raise ExportError("without SOURCE only --alpha can be given: the rest is fitted on images")
    if manifest.gate is None:
        raise ExportError("the bundle is not calibrated yet; give a SOURCE of in-distribution images")
    return dataclasses.replace(manifest, gate=manifest.gate.at(args.alpha))


def _kept(path: Path, manifest: Manifest, rewritten: Sequence[str]) -> tuple[dict[str, bytes], list[str]]:
    """The other files of a bundle: what stays, and the names of what no longer holds."""
    stale = {*FIGURES, *manifest.files} - {bundle.MODEL}
    kept: dict[str, bytes] = {}
    dropped: list[str] = []
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path).as_posix()
        if not file.is_file() or name in rewritten:
            continue
        if name in stale or name.startswith("engines/"):
            dropped.append(name)
        else:
            kept[name] = file.read_bytes()
    return kept, dropped


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    loaded = bundle.Bundle.load(args.bundle)
    loaded.check_graph(load_engine(loaded, threads=args.threads).signature)
    model, warning = onnx.load_from_string(loaded.model), None
    if args.source is None:
        manifest = _moved(loaded.manifest, args)
    else:
        options = _options(args, loaded.manifest)
        gated = fit_gate(model, loaded.manifest, args.source, options, threads=args.threads)
        manifest, warning = gated.manifest, gated.warning
    written = {bundle.MODEL: seal(model, manifest)}
    texts = documents(manifest)
    kept, dropped = _kept(args.bundle, loaded.manifest, (bundle.MANIFEST, *written, *texts))
    bundle.write(args.bundle, manifest, written, {**kept, **texts})
    print(f"{args.bundle}: {gate_text(manifest)}")
    if dropped:
        print(f"dropped, as made for the gate before: {', '.join(dropped)}")
    if warning:
        print(f"warning: {warning}")
    return 0


if __name__ == "__main__":
    run(main)
