"""``python -m export.evaluate BUNDLE .. --id SOURCE --ood NAME=SOURCE ..``: how well the gate separates."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from export import leakage
from export.exceptions import ExportError
from export.metrics.evaluation import Evaluation, evaluate
from export.metrics.observation import Observed, observe, observe_known
from export.report.card import documents
from export.report.evaluation import comparison, markdown, summary, table
from export.report.plots import pictures
from runtime.bundle import write_documents
from runtime.command import run
from runtime.gate import Gate
from runtime.manifest import InputSpec
from train.data import ImageSet, add_strict_option, check, read


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m export.evaluate",
        description="Evaluate bundles as they are deployed: accuracy and acceptance on images of their own classes, risk "
        "against coverage, and for every score and OOD set AUROC, AUPR and FPR95, the last in both conventions in use: "
        "ID-positive (share of OOD images accepted where 95 %% of ID images are) and OOD-positive (share of ID images "
        "flagged where 95 %% of OOD images are); all with 95 %% intervals. Use images that were neither trained nor "
        "calibrated on: images that the bundle was calibrated or fitted on are recognised and refused.",
        epilog="Example: python -m export.evaluate bundles/cifar10 --id val.tar@2/2 --ood textures=dtd/ --json out.json",
    )
    parser.add_argument("bundles", metavar="BUNDLE", nargs="+", type=Path, help="several are compared")
    parser.add_argument(
        "--id", required=True, metavar="SOURCE", help="images of the model's classes, one folder a class"
    )
    parser.add_argument("--ood", required=True, action="append", metavar="NAME=SOURCE", help="other images; repeatable")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here; a list for several bundles")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables here")
    parser.add_argument("--card", action="store_true", help="write the figures and plots into each bundle's card")
    parser.add_argument(
        "--allow-leakage", action="store_true", help="evaluate on images that the bundle was made with all the same"
    )
    add_strict_option(parser)
    parser.add_argument("--threads", type=int, default=0, help="engine threads (default: one a physical core)")
    return parser


@dataclass(frozen=True)
class Evaluated:
    """A bundle, its figures, and what they were computed from."""

    gate: Gate
    figures: Evaluation
    known: Observed
    unknown: Mapping[str, Observed]

    def documents(self) -> dict[str, bytes]:
        """The bundle's card with figures and plots."""
        plots = pictures(self.gate.manifest, self.figures, self.known, self.unknown)
        return documents(self.gate.manifest, self.figures, plots)


def evaluate_sources(
    gates: Sequence[Gate],
    id_source: str,
    ood_sources: Mapping[str, str],
    *,
    allow_leakage: bool = False,
    strict: bool = False,
) -> list[Evaluated]:
    """Read one source after another, run each bundle over it, and compute each bundle's figures.

    Raises:
        DataError: a source that can't be read, or a class that a model does not have.
        ExportError: images that a bundle was calibrated or fitted on.
    """
    for source in (id_source, *ood_sources.values()):
        check(source)
    known: list[Observed] = []
    for gate, images in _each(gates, id_source, strict):
        known.append(observe_known(gate.engine, gate.manifest, id_source, images))
        _check_leakage(gate, known[-1], allow_leakage)
    unknown: list[dict[str, Observed]] = [{} for _ in gates]
    for name, source in ood_sources.items():
        for found, (gate, images) in zip(unknown, _each(gates, source, strict), strict=True):
            found[name] = observe(gate.engine, gate.manifest, source, images, title=name)
            _check_leakage(gate, found[name], allow_leakage)
    return [
        Evaluated(gate, evaluate(gate.manifest, mine, others), mine, others)
        for gate, mine, others in zip(gates, known, unknown, strict=True)
    ]


def _each(gates: Sequence[Gate], source: str, strict: bool) -> list[tuple[Gate, ImageSet]]:
    """Each bundle with the source's images at its size; bundles that see images alike share them."""
    sets: dict[InputSpec, ImageSet] = {}
    for gate in gates:
        spec = gate.manifest.input
        if spec not in sets:
            sets[spec] = read(source, spec, strict=strict)
    return [(gate, sets[gate.manifest.input]) for gate in gates]


def _check_leakage(gate: Gate, observed: Observed, allow: bool) -> None:
    for role, overlap in leakage.leaks(gate.manifest, observed.hashes).items():
        message = (
            f"{observed.source}: about {overlap.estimate:,} of {overlap.images:,} images are among those of the "
            f"{role} of {gate.manifest.model.name} ({gate.manifest.data[role].source})"
        )
        if not allow:
            raise ExportError(f"{message}; evaluate on other images, or pass --allow-leakage")
        print(f"warning: {message}: its figures are too good")


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
    for option, file in (("--json", args.json), ("--markdown", args.markdown)):
        if file and not file.parent.is_dir():
            raise ExportError(f"{option} {file}: there is no directory {file.parent}")
    gates = [Gate.load(path, engine="onnxruntime-cpu", threads=args.threads) for path in args.bundles]
    evaluated = evaluate_sources(gates, args.id, sources, allow_leakage=args.allow_leakage, strict=args.strict)
    figures = {str(path): each.figures for path, each in zip(args.bundles, evaluated, strict=True)}
    for path, found in figures.items():
        print(*([f"{path}:"] if len(figures) > 1 else []), summary(found), table(found), sep="\n", end="\n\n")
    if len(figures) > 1:
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
