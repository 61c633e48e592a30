"""The decision rule: its thresholds, and what they promise."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np

from runtime.exceptions import UnknownOperatingPoint

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class ClassPoint:
    """The threshold of the images predicted as one class, and what it promises for these.

    Attributes:
        n: number of calibration images predicted as this class.
        threshold, tpr_interval, max_rejection: as in :class:`OperatingPoint`, for images predicted as this class.
    """

    n: int
    threshold: float
    tpr_interval: tuple[float, float]
    max_rejection: float

    def __post_init__(self) -> None:
        _check_point(self.threshold, self.tpr_interval, self.max_rejection)


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold, and what it promises.

    Attributes:
        alpha: the bound on the probability that an in-distribution image is rejected.
        threshold: float32-representable, in the units of the score.
        tpr_interval: central 95 % interval of the acceptance rate that `threshold` realises on in-distribution images,
            over draws of the calibration set (:func:`export.calibrate.calibration.tpr_interval`).
        max_rejection: the largest rejection rate of in-distribution images compatible with the calibration set at
            95 % (:func:`export.calibrate.calibration.max_rejection`).
        classes: for a class-conditional gate, the thresholds of the predicted classes, by label. A class that is
            missing had too few calibration images for `alpha` and falls back to `threshold`.
    """

    alpha: float
    threshold: float
    tpr_interval: tuple[float, float]
    max_rejection: float
    classes: dict[str, ClassPoint] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_point(self.threshold, self.tpr_interval, self.max_rejection)
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha must be in (0, 1), found {self.alpha}")


@dataclass(frozen=True)
class Choice:
    """How the gate's score was chosen: by AUROC against outliers, on images that did not set the threshold.

    Attributes:
        n: number of in-distribution images that chose.
        outliers: number of images of each outlier set.
        auroc: for each outlier set, each score's AUROC; their mean over the sets chose.
        temperatures: for each temperature of the energy score, its mean AUROC over the sets; empty where the
            temperature was given.
    """

    n: int
    outliers: dict[str, int]
    auroc: dict[str, dict[str, float]]
    temperatures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class GateSpec:
    """The decision rule: accept when ``score >= threshold``, the threshold of the predicted class if it has its own.

    Attributes:
        score: the key of the gate's score, one of the manifest's `scores`.
        threshold, alpha, tpr_interval, max_rejection, classes: the operating point in use, as in
            :class:`OperatingPoint`.
        tpr_target: ``1 - alpha``.
        n_calibration: number of calibration images.
        class_conditional: whether predicted classes have thresholds of their own.
        operating_points: the others that are stored, by ascending alpha; :meth:`at` changes to one.
        choice: how the score was chosen; None where it was given.
    """

    score: str
    threshold: float
    alpha: float
    tpr_target: float
    n_calibration: int
    tpr_interval: tuple[float, float]
    max_rejection: float
    classes: dict[str, ClassPoint] = field(default_factory=dict)
    class_conditional: bool = False
    operating_points: tuple[OperatingPoint, ...] = ()
    choice: Choice | None = None

    def __post_init__(self) -> None:
        if len(set(self.alphas)) != len(self.alphas):
            raise ValueError(f"operating_points must differ from each other and from alpha, found {list(self.alphas)}")
        if not self.class_conditional and any(point.classes for point in self.points):
            raise ValueError("classes must be empty where class_conditional is false")

    @property
    def points(self) -> tuple[OperatingPoint, ...]:
        """All operating points, by ascending alpha."""
        own = OperatingPoint(self.alpha, self.threshold, self.tpr_interval, self.max_rejection, self.classes)
        return tuple(sorted((own, *self.operating_points), key=lambda point: point.alpha))

    @property
    def alphas(self) -> tuple[float, ...]:
        """The alphas of all operating points, ascending."""
        return tuple(point.alpha for point in self.points)

    def at(self, alpha: float) -> GateSpec:
        """The same gate at another of its operating points.

        Raises:
            UnknownOperatingPoint: `alpha` is not one of :attr:`alphas`.
        """
        chosen = [point for point in self.points if point.alpha == alpha]
        if not chosen:
            stored = ", ".join(f"{stored:g}" for stored in self.alphas)
            raise UnknownOperatingPoint(
                f"no operating point for alpha = {alpha:g}; stored are {stored}. Calibrate again for another"
            )
        return dataclasses.replace(
            self,
            **{field.name: getattr(chosen[0], field.name) for field in dataclasses.fields(OperatingPoint)},
            tpr_target=1 - alpha,
            operating_points=tuple(point for point in self.points if point.alpha != alpha),
        )


def _check_point(threshold: float, tpr_interval: tuple[float, float], max_rejection: float) -> None:
    if not abs(threshold) <= _LARGEST:
        raise ValueError(f"threshold must be a finite float32, found {threshold}")
    if not 0 <= tpr_interval[0] <= tpr_interval[1] <= 1:
        raise ValueError(f"tpr_interval must ascend within [0, 1], found {list(tpr_interval)}")
    if not 0 <= max_rejection <= 1:
        raise ValueError(f"max_rejection must be in [0, 1], found {max_rejection}")
