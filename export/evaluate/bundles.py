"""Bundles on the same sources of images: the figures of each, and its documents with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from export import leakage
from export.exceptions import ExportError
from export.metrics.evaluation import Evaluation, evaluate
from export.metrics.observation import Observed, observe, observe_known
from export.report.card import documents
from export.report.plots import pictures
from runtime.gate import Gate
from runtime.manifest import InputSpec
from train.data import ImageSet, Reading, check, read


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
    reading: Reading = Reading(),  # noqa: B008  frozen
) -> list[Evaluated]:
    """Read one source after another, run each bundle over it, and compute each bundle's figures.

    Raises:
        DataError: a source that can't be read, or a class that a model does not have.
        ExportError: images that a bundle was trained, fitted or calibrated on.
    """
    for source in (id_source, *ood_sources.values()):
        check(source)
    known: list[Observed] = []
    for gate, images in _each(gates, id_source, reading, named=True):
        known.append(observe_known(gate.engine, gate.manifest, id_source, images))
        _check_leakage(gate, known[-1], allow_leakage)
    unknown: list[dict[str, Observed]] = [{} for _ in gates]
    for name, source in ood_sources.items():
        for found, (gate, images) in zip(unknown, _each(gates, source, reading), strict=True):
            found[name] = observe(gate.engine, gate.manifest, source, images, title=name)
            _check_leakage(gate, found[name], allow_leakage)
    return [
        Evaluated(gate, evaluate(gate.manifest, mine, others), mine, others)
        for gate, mine, others in zip(gates, known, unknown, strict=True)
    ]


def _each(gates: Sequence[Gate], source: str, reading: Reading, *, named: bool = False) -> list[tuple[Gate, ImageSet]]:
    """Each bundle with the source's images at its size, and if `named` by its labels; bundles that see alike share them."""
    sets: dict[tuple[InputSpec, tuple[str, ...] | None], ImageSet] = {}
    found = []
    for gate in gates:
        key = gate.manifest.input, gate.manifest.labels if named else None
        if key not in sets:
            sets[key] = read(source, key[0], reading=reading, labels=key[1])
        found.append((gate, sets[key]))
    return found


def _check_leakage(gate: Gate, observed: Observed, allow: bool) -> None:
    manifest = gate.manifest
    for message in leakage.warnings(manifest, manifest.model.name, observed.source, observed.hashes, observed.looks):
        if not allow:
            raise ExportError(f"{message}; evaluate on other images, or pass --allow-leakage")
        print(f"warning: {message}: its figures are too good")
