"""The figures of a benchmark's protocol, as its leaderboard has them: means over near and over far OOD sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from export.metrics.detection import Detection


@dataclass(frozen=True)
class Mean:
    """Over OOD sets, each counting the same however many images it has; in [0, 1].

    Attributes:
        auroc: that an ID image scores above an OOD image.
        fpr95: share of ID images flagged where at least 95 % of OOD images are: OOD is the positive class.
        sets: the sets.
    """

    auroc: float
    fpr95: float
    sets: tuple[str, ...]


@dataclass(frozen=True)
class Line:
    """What one score reaches.

    Attributes:
        score: which.
        full_spectrum: whether shifted images count as known (FS-OOD).
        near, far: of each split's sets that are there; None where none is.
        accuracy: on the known images; None where they have no labels.
    """

    score: str
    full_spectrum: bool
    near: Mean | None
    far: Mean | None
    accuracy: float | None


@dataclass(frozen=True)
class Leaderboard:
    """The lines of one bundle under a protocol.

    Attributes:
        protocol: its name.
        arch, training: the network and how it was trained.
        outliers: whether it was trained with auxiliary outliers; None where nothing says so.
        near, far: the sets of the protocol.
        missing: what is missing, by set: all of it, or some of its images.
        lines: a line a score.
    """

    protocol: str
    arch: str
    training: str
    outliers: bool | None
    near: tuple[str, ...]
    far: tuple[str, ...]
    missing: dict[str, str]
    lines: tuple[Line, ...]


def lines(
    near: Sequence[str],
    far: Sequence[str],
    figures: Mapping[str, Mapping[str, Detection]],
    accuracy: float | None,
    *,
    full_spectrum: bool = False,
) -> tuple[Line, ...]:
    """A line for each score.

    Args:
        near, far: names of the protocol's OOD sets.
        figures: by OOD set and score, of the sets that are there.
        accuracy: on the known images.
        full_spectrum: whether shifted images are among these.
    """
    scores = list(next(iter(figures.values()), {}))
    return tuple(
        Line(score, full_spectrum, _mean(near, score, figures), _mean(far, score, figures), accuracy)
        for score in scores
    )


def _mean(sets: Sequence[str], score: str, figures: Mapping[str, Mapping[str, Detection]]) -> Mean | None:
    there = tuple(name for name in sets if name in figures)
    if not there:
        return None
    found = [figures[name][score] for name in there]
    auroc = sum(one.auroc for one in found) / len(there)
    return Mean(auroc, sum(one.fpr95_ood_positive for one in found) / len(there), there)
