"""``python -m export.fit BUNDLE SOURCE --detectors react,knn,..``: fitted detectors become columns of ``scores``."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Container, Sequence
from pathlib import Path

import onnx

from export.arguments import add_leakage_option, add_run_options, print_remarks
from export.calibrate.arguments import print_dropped
from export.calibrate.gating import fit_gate, without_gate
from export.calibrate.options import GateOptions
from export.detectors import DETECTORS
from export.detectors.base import has_features
from export.detectors.combined.merged import parts
from export.detectors.fitting import (
    fit,
    for_task,
    observe,
    strange,
    training_images,
    verify,
    with_provenance,
    with_scores,
)
from export.detectors.sign import objections
from export.exceptions import ExportError
from export.fit.options import check_used, chooses, default_settings, parse_names, parse_settings
from export.graph.last_layers import last_layers
from export.images.inference import make_engine
from export.images.leakage import record
from export.report.guarantee import gate_text
from export.rewriting import rewrite
from runtime import bundle
from runtime.command import prog, run
from runtime.gate import load_engine
from runtime.manifest import Manifest
from train.data import Reading, check

_FOREIGN = (
    "the penultimate activations are not what the logits are made of, as far as the export could tell: detectors of them say "
    "nothing of this classifier"
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog(__package__),
        description="Fit detectors on the features that a bundle's own graph outputs for training images, and add them to "
        f"the graph as columns of its scores. The detectors: {', '.join(DETECTORS)}. One that the bundle has already is "
        "replaced. New scores have no calibration yet: without --calibration the bundle rejects everything until "
        "python -m export.calibrate is run.",
        epilog="Example: %(prog)s bundles/cifar10 train.tar --detectors react,knn --set knn.bank=0.1 "
        "--calibration val.tar@1/2",
    )
    parser.add_argument("bundle", metavar="BUNDLE", type=Path)
    parser.add_argument(
        "source",
        metavar="SOURCE",
        nargs="?",
        help="training images, labelled where a detector needs labels; not needed for "
        + ", ".join(name for name, kind in DETECTORS.items() if kind.needs == "nothing"),
    )
    parser.add_argument(
        "--detectors", required=True, metavar="NAME,..", help="which, or all that the model's last layers admit"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="DETECTOR.SETTING=VALUE", help=f"repeatable; {default_settings()}"
    )
    parser.add_argument(
        "--aux",
        action="append",
        default=[],
        metavar="SOURCE",
        help="auxiliary outliers that choose the settings whose default is auto, repeatable (default: synthetic ones, made "
        "of training images); never those of an evaluation",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the bank's sample and of k-means (default: %(default)s)"
    )
    parser.add_argument("--calibration", metavar="SOURCE", help="calibrate in the same go, with a gate as before")
    parser.add_argument("--out", type=Path, metavar="BUNDLE", help="directory to write (default: the bundle itself)")
    add_leakage_option(parser)
    add_run_options(parser)
    return parser


def _before(manifest: Manifest, fitted: Container[str]) -> Manifest:
    """A manifest whose gate was not chosen by a comparison of scores that have been fitted anew."""
    gate = manifest.gate
    if gate is None or not any(part in fitted for part in parts(gate.score)):
        return manifest
    return dataclasses.replace(manifest, gate=dataclasses.replace(gate, choice=None))


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    if args.seed < 0:
        raise ExportError(f"--seed {args.seed}: it must be at least 0")
    names = None if args.detectors == "all" else parse_names(args.detectors)
    for source in filter(None, (args.source, args.calibration)):
        check(source)
    loaded = bundle.Bundle.load(args.bundle)
    manifest, warning, note = loaded.manifest, None, None
    settings = parse_settings(args.set, manifest)
    loaded.check_graph(load_engine(loaded, threads=args.threads).signature)
    precision = manifest.model.precision
    engine = make_engine(loaded.model, precision, args.threads)
    model = onnx.load_from_string(loaded.model)
    manifest = without_gate(model, manifest)
    names = names or for_task(manifest.task)
    check_used(args.set, names)
    images = training_images(names, manifest, args.source, reading=Reading.of(args))
    training = observe(engine, manifest, last_layers(model), images)
    training = dataclasses.replace(training, seed=args.seed, settings=settings)
    if images is not None and chooses(names, settings):
        manifest, sets = strange(engine, manifest, images.images, args.aux, Reading.of(args))
        training = dataclasses.replace(training, outliers=sets)
    elif args.aux:
        raise ExportError("--aux chooses settings that are auto, and there are none among these detectors")
    named = {item.partition(".")[0] for item in args.set}
    fitted, left_out = fit(names, training, skip={*names} - named if args.detectors == "all" else ())
    if not fitted:
        raise ExportError(left_out[0].removeprefix("left out: "))
    manifest = with_scores(model, manifest, fitted, training)
    engine = make_engine(model.SerializeToString(), precision, args.threads)
    found = verify(engine, images, fitted, manifest)
    manifest = with_provenance(manifest, fitted, args.source, len(training.penultimate), args.seed, found)
    if images is not None:
        roles = [f"fit, {name}" for name in fitted if DETECTORS[name].needs != "nothing"]
        manifest = record(manifest, roles, args.source, images.images)
    if args.calibration:
        options = GateOptions.of(loaded.manifest, Reading.of(args), allow_leakage=args.allow_leakage)
        gated = fit_gate(
            model, manifest, args.calibration, options, threads=args.threads, before=_before(loaded.manifest, fitted)
        )
        manifest, warning, note = gated.manifest, gated.warning, gated.note
    out = args.out or args.bundle
    dropped = rewrite(args.bundle, loaded.manifest, model, manifest, out, threads=args.threads)
    print(
        f"{out}: {', '.join(fitted)} added; the graph's scores differ from the float64 references by at most "
        f"{max(found.values()):.2g} (relative)"
    )
    print(gate_text(manifest))
    if not args.calibration:
        print_dropped(loaded.manifest)
    if dropped:
        print(f"dropped, as made for the scores before: {', '.join(dropped)}")
    for line in left_out:
        print(line)
    weaker = objections({name: DETECTORS[name] for name in fitted}, training.negative_share)
    foreign = _FOREIGN if len(training.penultimate) and not has_features(manifest.scores) else None
    print_remarks(note=note, warning="; ".join(filter(None, (weaker, foreign, warning))) or None)
    return 0


if __name__ == "__main__":
    run(main)
