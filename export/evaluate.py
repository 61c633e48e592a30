"""``python -m export.evaluate BUNDLE --id SOURCE --ood NAME=SOURCE ...``: how well the gate separates."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from export.evaluation import Evaluation, evaluate
from export.exceptions import ExportError
from export.report import documents, summary, table
from runtime.bundle import write_documents
from runtime.command import run
from runtime.gate import Gate
from train.data import Images, read


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m export.evaluate",
        description="Evaluate a bundle as it is deployed: accuracy and acceptance on images of its own classes, and for "
        "every score and OOD set AUROC, AUPR and FPR95, the last in both conventions in use: ID-positive (share of OOD "
        "images accepted where 95 %% of ID images are) and OOD-positive (share of ID images flagged where 95 %% of OOD "
        "images are). Use images that were neither trained nor calibrated on.",
        epilog="Example: python -m export.evaluate bundles/cifar10 --id val.tar@2/2 --ood textures=dtd/ --json out.json",
    )
    parser.add_argument("bundle", metavar="BUNDLE", type=Path)
    parser.add_argument(
        "--id", required=True, metavar="SOURCE", help="images of the model's classes, one folder a class"
    )
    parser.add_argument("--ood", required=True, action="append", metavar="NAME=SOURCE", help="other images; repeatable")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--card", action="store_true", help="write the figures and a histogram into the bundle's card")
    parser.add_argument("--threads", type=int, default=0, help="engine threads (default: one a physical core)")
    return parser


def evaluate_sources(gate: Gate, id_source: str, ood_sources: Mapping[str, str]) -> tuple[Evaluation, dict[str, bytes]]:
    """Load every source, evaluate, and make the bundle's documents with the figures in them.

    Raises:
        DataError: a source that can't be read, or a class that the model does not have.
        ExportError: images with several labels for a model that gives one.
    """
    manifest = gate.manifest
    id_set = read(id_source, manifest.input)
    if manifest.task == "multiclass" and id_set.task == "multilabel":
        raise ExportError(f"--id {id_source}: its images have any number of labels each; the model gives one")
    if manifest.task == id_set.task:
        id_set = id_set.with_classes(manifest.labels, id_source)
    ood_sets: dict[str, tuple[str, Images]] = {
        name: (source, read(source, manifest.input).images) for name, source in ood_sources.items()
    }
    figures, histograms = evaluate(gate.engine, manifest, (id_source, id_set), ood_sets)
    return figures, documents(manifest, figures, histograms)


def parse_ood(options: Sequence[str]) -> dict[str, str]:
    """``NAME=SOURCE`` options by name.

    Raises:
        ExportError: an option of another form, or a name given twice.
    """
    sources: dict[str, str] = {}
    for option in options:
        name, separator, source = option.partition("=")
        if not (name and separator and source):
            raise ExportError(f"--ood {option}: expected NAME=SOURCE, such as textures=dtd.tar")
        if name in sources or name == "ID":
            raise ExportError(f"--ood {option}: the name {name!r} is taken; choose another")
        sources[name] = source
    return sources


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    sources = parse_ood(args.ood)
    if args.json and not args.json.parent.is_dir():
        raise ExportError(f"--json {args.json}: there is no directory {args.json.parent}")
    gate = Gate.load(args.bundle, threads=args.threads)
    figures, files = evaluate_sources(gate, args.id, sources)
    print(summary(figures))
    print(table(figures))
    if args.json:
        args.json.write_text(json.dumps(figures.to_dict(), indent=1) + "\n")
    if args.card:
        write_documents(args.bundle, files)
    return 0


if __name__ == "__main__":
    run(main)
