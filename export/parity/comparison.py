"""Two artifacts of one classifier on the same sets of images: their differences, and the figures of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from export.exceptions import ExportError
from export.images import leakage
from export.metrics.evaluation import Evaluation, evaluate
from export.metrics.observation import Observed, observe, observe_known
from export.parity.difference import Difference, compare
from runtime.engines.interface import Engine, Outputs
from runtime.manifest import InputSpec, Manifest, Task
from train.data import ImageSet, Reading, check, read
from train.exceptions import DataError


@dataclass(frozen=True)
class Artifact:
    """What to call it, its engine, and the manifest of its scores and gate."""

    name: str
    engine: Engine
    manifest: Manifest


@dataclass(frozen=True)
class Comparison:
    """Two artifacts, A and B.

    Attributes:
        a, b: their names.
        known: their differences on in-distribution images.
        unknown: on other images, by name.
        evaluations: A's and B's own figures.
    """

    a: str
    b: str
    known: Difference
    unknown: dict[str, Difference]
    evaluations: tuple[Evaluation, Evaluation]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Compared:
    """A comparison, and what it was computed from.

    Attributes:
        figures: the comparison.
        observed: for each set, the in-distribution one as ``ID``, A's outputs and B's.
        warnings: of images that one of them was made with.
    """

    figures: Comparison
    observed: dict[str, tuple[Observed, Observed]]
    warnings: tuple[str, ...]


class Described(Protocol):
    """What a classifier sees and names: a manifest, or a classifier of torch."""

    @property
    def task(self) -> Task: ...

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def input(self) -> InputSpec: ...


def check_comparable(a: Described, b: Described) -> None:
    """Raises ExportError unless both see images alike and name the same classes."""
    for name, mine, others in (("task", a.task, b.task), ("labels", a.labels, b.labels), ("input", a.input, b.input)):
        if mine != others:
            raise ExportError(f"not two artifacts of one classifier: their {name} differ, {mine} and {others}")


def compare_artifacts(
    a: Artifact,
    b: Artifact,
    source: str,
    ood: Mapping[str, str],
    *,
    reading: Reading = Reading(),  # noqa: B008  frozen
) -> Compared:
    """Read one source after another and run both artifacts over it.

    Raises:
        ExportError: artifacts of different classifiers.
        DataError: a source that can't be read.
    """
    check_comparable(a.manifest, b.manifest)
    for each in (source, *ood.values()):
        check(each)
    sets = {"ID": read(source, b.manifest.input, reading=reading, labels=b.manifest.labels)}
    sets |= {name: read(each, b.manifest.input, reading=reading.unlabelled) for name, each in ood.items()}
    observed = {}
    for name, images in sets.items():
        where = source if name == "ID" else ood[name]
        pair = [_observe(each, name, where, images) for each in (a, b)]
        observed[name] = (pair[0], pair[1])
    differences = {
        name: compare(mine.source, a.manifest, _outputs(mine), b.manifest, _outputs(others))
        for name, (mine, others) in observed.items()
    }
    unknown = {name: pair for name, pair in observed.items() if name != "ID"}
    evaluations = [
        evaluate(each.manifest, observed["ID"][side], {name: pair[side] for name, pair in unknown.items()})
        for side, each in enumerate((a, b))
    ]
    known = differences.pop("ID")
    figures = Comparison(a.name, b.name, known, differences, (evaluations[0], evaluations[1]))
    warnings = [line for mine, _ in observed.values() for line in _warnings((a, b), mine)]
    return Compared(figures, observed, tuple(warnings))


def _observe(artifact: Artifact, name: str, source: str, images: ImageSet) -> Observed:
    """Labels are kept where they are the model's."""
    if name == "ID":
        try:
            return observe_known(artifact.engine, artifact.manifest, source, images, logits=True)
        except DataError:  # of other classes: their images can be compared all the same
            pass
    return observe(artifact.engine, artifact.manifest, source, images, title=f"{artifact.name}, {name}", logits=True)


def _outputs(observed: Observed) -> Outputs:
    if observed.logits is None:
        raise ExportError(f"{observed.source}: its images were observed without their logits")
    return Outputs(observed.logits, observed.scores)


def _warnings(artifacts: tuple[Artifact, Artifact], known: Observed) -> Iterator[str]:
    for artifact in artifacts:
        for message in leakage.warnings(artifact.manifest, artifact.name, known.source, known.hashes, known.looks):
            yield f"{message}: its acceptance and its detection are those of images it was made with"
