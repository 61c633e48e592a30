"""``python -m export.calibrate BUNDLE SOURCE``: fit the threshold again, on other images, for another alpha or score."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import onnx

from export.artifact import seal
from export.calibration import calibrate
from export.inference import collect
from export.leakage import record
from export.report import documents, gate_text
from runtime import bundle
from runtime.command import run
from runtime.gate import load_engine
from train.data import load


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m export.calibrate",
        description="Calibrate a bundle's gate by split conformal prediction on in-distribution images that the model was "
        "not trained on. The bundle is re-written: threshold and manifest are sealed into model.onnx too, and figures "
        "of an earlier evaluation, which no longer hold, are dropped.",
        epilog="Example: python -m export.calibrate bundles/cifar10 val.tar@1/2 --alpha 0.01",
    )
    parser.add_argument("bundle", metavar="BUNDLE", type=Path)
    parser.add_argument("source", metavar="SOURCE", help="images: DIR, TAR or .npz; SOURCE@1/2 is half of them")
    parser.add_argument("--alpha", type=float, help="bound on rejecting an ID image (default: as before, else 0.05)")
    parser.add_argument("--score", help="the gate's score (default: as before, else energy)")
    parser.add_argument("--threads", type=int, default=0, help="engine threads (default: one a physical core)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    loaded = bundle.Bundle.load(args.bundle)
    manifest, before = loaded.manifest, loaded.manifest.gate
    engine = load_engine(loaded, threads=args.threads)
    loaded.check_graph(engine.signature)
    images = load(args.source, manifest.input).images
    score = args.score or (before.score if before else "energy")
    alpha = args.alpha if args.alpha is not None else (before.alpha if before else 0.05)
    manifest = calibrate(manifest, collect(engine, images, title="calibrate").scores, score, alpha)
    manifest = record(manifest, "calibration", args.source, images)
    model = onnx.load_from_string(loaded.model)
    bundle.write(args.bundle, manifest, {bundle.MODEL: seal(model, manifest)}, documents(manifest))
    print(f"{args.bundle}: {gate_text(manifest)}")
    return 0


if __name__ == "__main__":
    run(main)
