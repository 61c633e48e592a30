"""Bundles on the same sources of images: the figures of each, and its documents with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from export.evaluate.protocols import Protocol, leaderboard
from export.exceptions import ExportError
from export.images import leakage
from export.metrics.evaluation import Evaluation, evaluate
from export.metrics.observation import Observed, observe, observe_known
from export.report.card import documents
from export.report.plots import pictures
from runtime.gate import Gate
from runtime.manifest import InputSpec
from train.data import ImageSet, Reading, check, read, short_name
from train.exceptions import DataError


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
    id_source: str | ImageSet,
    ood_sources: Mapping[str, str | ImageSet],
    *,
    shifted: Mapping[str, str | ImageSet] = MappingProxyType({}),
    protocol: Protocol | None = None,
    allow_leakage: bool = False,
    reading: Reading = Reading(),  # noqa: B008  frozen
) -> list[Evaluated]:
    """Read one source after another, run each bundle over it, and compute each bundle's figures.

    Args:
        gates: the bundles.
        id_source: images of their classes; each source read before, or to be.
        ood_sources: other images, by name; none to look at known images alone.
        shifted: shifted images of their classes, by name.
        protocol: that the sources are of; of its OOD sets those are taken that are there, unless `reading` is strict.
        allow_leakage: whether images that a bundle was made with are taken.
        reading: what the user says of the sources.

    Raises:
        DataError: a source that can't be read, or a class that a model does not have.
        ExportError: images that a bundle was trained, fitted or calibrated on.
    """
    optional = protocol.ood if protocol and not reading.strict else ()
    needed = [source for name, source in ood_sources.items() if name not in optional]
    for source in (id_source, *needed, *shifted.values()):
        check(source)
    seen = _Seen(gates, reading, allow_leakage)
    known = seen.look("ID", id_source, known=True)
    moved = {name: seen.look(name, source, known=True) for name, source in shifted.items()}
    unknown = {}
    for name, source in ood_sources.items():
        try:
            unknown[name] = seen.look(name, source, known=False)
        except DataError as error:
            if name not in optional:
                raise
            seen.missing[name] = "all of it"
            print(f"{name} is left out: {error}")
    if ood_sources and not unknown:
        raise DataError(f"{', '.join(ood_sources)}: none of these OOD sets is there")
    return [
        _evaluated(gate, known[i], _of(i, unknown), _of(i, moved), protocol, seen.missing)
        for i, gate in enumerate(gates)
    ]


@dataclass
class _Seen:
    """Bundles that look at one source after another, and by its name what was missing of each."""

    gates: Sequence[Gate]
    reading: Reading
    allow_leakage: bool
    missing: dict[str, str] = field(default_factory=dict)

    def look(self, name: str, source: str | ImageSet, *, known: bool) -> list[Observed]:
        """What each bundle makes of a source, labelled by its classes if they are `known`."""
        each = _each(self.gates, source, self.reading, named=known)
        self.missing |= _left_out(name, each[0][1])
        run = observe_known if known else observe
        title = source if isinstance(source, str) else short_name(source)
        found = [run(gate.engine, gate.manifest, title, images, title=name) for gate, images in each]
        for gate, observed in zip(self.gates, found, strict=True):
            _check_leakage(gate, observed, self.allow_leakage)
        return found


def _of(bundle: int, sets: Mapping[str, Sequence[Observed]]) -> dict[str, Observed]:
    return {name: observed[bundle] for name, observed in sets.items()}


def _evaluated(
    gate: Gate,
    known: Observed,
    unknown: Mapping[str, Observed],
    moved: Mapping[str, Observed],
    protocol: Protocol | None,
    missing: Mapping[str, str],
) -> Evaluated:
    figures = evaluate(gate.manifest, known, unknown, moved)
    if protocol:
        figures = replace(figures, leaderboard=leaderboard(protocol, gate.manifest, figures, missing))
    return Evaluated(gate, figures, known, unknown)


def _left_out(name: str, images: ImageSet) -> dict[str, str]:
    """How many images of a set are not there or can't be read, by its name; nothing where it is whole."""
    count = sum(len(passed.names) for passed in images.report.passed if passed.counts)
    return {name: f"{count:,} of its {len(images) + count:,} images"} if count else {}


def _each(
    gates: Sequence[Gate], source: str | ImageSet, reading: Reading, *, named: bool = False
) -> list[tuple[Gate, ImageSet]]:
    """Each bundle with the source's images at its size, and if `named` by its labels; bundles that see alike share them."""
    sets: dict[tuple[InputSpec, tuple[str, ...] | None], ImageSet] = {}
    found = []
    for gate in gates:
        key = gate.manifest.input, gate.manifest.labels if named else None
        if key not in sets:
            sets[key] = read(source, key[0], reading=reading if named else reading.unlabelled, labels=key[1])
        found.append((gate, sets[key]))
    return found


def _check_leakage(gate: Gate, observed: Observed, allow: bool) -> None:
    manifest = gate.manifest
    for message in leakage.warnings(manifest, manifest.model.name, observed.source, observed.hashes, observed.looks):
        if not allow:
            raise ExportError(f"{message}; evaluate on other images, or pass --allow-leakage")
        print(f"warning: {message}: its figures are too good")
