"""The decision rule: its thresholds, what they promise, and what is kept of the images that set them."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import numpy as np

from runtime.exceptions import UnknownOperatingPoint
from runtime.manifest.calibration import Calibration
from runtime.manifest.labelled import ErrorBound, LabelSet, Selection
from runtime.manifest.promise import error_promise, rejection_promise

_LARGEST = float(np.finfo(np.float32).max)

MergeMethod = Literal["min", "harmonic", "fisher"]
Guarantee = Literal["marginal", "pac"]


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
        selection: the second threshold, which bounds the error of accepted images; None where nothing bounds it.
        sets: the label sets of images that are taken for known, by ascending coverage.
    """

    alpha: float
    threshold: float
    tpr_interval: tuple[float, float]
    max_rejection: float
    classes: dict[str, ClassPoint] = field(default_factory=dict)
    selection: Selection | None = None
    sets: tuple[LabelSet, ...] = ()

    def __post_init__(self) -> None:
        _check_point(self.threshold, self.tpr_interval, self.max_rejection)
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha must be in (0, 1), found {self.alpha}")


_POINT = tuple(field.name for field in dataclasses.fields(OperatingPoint))


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

    With `max_error` an accepted image has to reach a second threshold too, that of `selection`.

    Attributes:
        score: the key of the gate's score, one of the manifest's `scores`.
        threshold, alpha, tpr_interval, max_rejection, classes, selection, sets: the operating point in use, as in
            :class:`OperatingPoint`.
        tpr_target: ``1 - alpha``.
        n_calibration: number of calibration images.
        class_conditional: whether predicted classes have thresholds of their own.
        operating_points: the others that are stored, by ascending alpha; :meth:`at` changes to one.
        calibration: order statistics of the images that set the thresholds, a key of its own in the manifest's JSON.
        choice: how the score was chosen; None where it was given.
        guarantee: whether alpha bounds the rejection rate on average over calibration sets (``marginal``), or for this one
            (``pac``), with a `confidence` over draws of the calibration set; None for ``marginal``.
        max_error: the bound on the error of accepted images that every operating point's `selection` keeps.
    """

    score: str
    threshold: float
    alpha: float
    tpr_target: float
    n_calibration: int
    tpr_interval: tuple[float, float]
    max_rejection: float
    calibration: Calibration
    classes: dict[str, ClassPoint] = field(default_factory=dict)
    class_conditional: bool = False
    operating_points: tuple[OperatingPoint, ...] = ()
    choice: Choice | None = None
    guarantee: Guarantee = "marginal"
    confidence: float | None = None
    selection: Selection | None = None
    sets: tuple[LabelSet, ...] = ()
    max_error: ErrorBound | None = None

    def __post_init__(self) -> None:
        if (self.guarantee == "pac") != (self.confidence is not None):
            raise ValueError(f"a guarantee of pac has a confidence, found {self.guarantee} and {self.confidence}")
        if self.confidence is not None and not 0 < self.confidence < 1:
            raise ValueError(f"confidence must be in (0, 1), found {self.confidence}")
        if any((point.selection is None) != (self.max_error is None) for point in self.points):
            raise ValueError("max_error needs a selection at every operating point, and a selection a max_error")
        if len(set(self.alphas)) != len(self.alphas):
            raise ValueError(f"operating_points must differ from each other and from alpha, found {list(self.alphas)}")
        if not self.class_conditional and any(point.classes for point in self.points):
            raise ValueError("classes must be empty where class_conditional is false")
        if self.n_calibration != self.calibration.n:
            raise ValueError(f"gate.n_calibration is {self.n_calibration}, calibration.n is {self.calibration.n}")

    @property
    def points(self) -> tuple[OperatingPoint, ...]:
        """All operating points, by ascending alpha."""
        own = OperatingPoint(**{name: getattr(self, name) for name in _POINT})
        return tuple(sorted((own, *self.operating_points), key=lambda point: point.alpha))

    @property
    def alphas(self) -> tuple[float, ...]:
        """The alphas of all operating points, ascending."""
        return tuple(point.alpha for point in self.points)

    @property
    def promise(self) -> str:
        """What is promised at the operating point in use, in a sentence or two to quote."""
        promises = [
            rejection_promise(self.alpha, self.confidence, self.n_calibration, by_class=self.class_conditional),
            *([error_promise(self.max_error)] if self.max_error else []),
        ]
        return " ".join(promises)

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
            **{name: getattr(chosen[0], name) for name in _POINT},
            tpr_target=1 - alpha,
            operating_points=tuple(point for point in self.points if point.alpha != alpha),
        )


@dataclass(frozen=True)
class PValueCurve:
    """A score's p-value as a continuous, increasing function of it (:func:`export.detectors.combined.merged.p_values`).

    Attributes:
        knots: scores, strictly ascending.
        heights: the p-values at the knots, ascending, in (0, 1].
        tail: the distance below the first knot at which the p-value is half of the first height.
    """

    knots: tuple[float, ...]
    heights: tuple[float, ...]
    tail: float

    def __post_init__(self) -> None:
        ascending = all(a < b for values in (self.knots, self.heights) for a, b in pairwise(values))
        if not self.knots or len(self.knots) != len(self.heights) or not ascending:
            raise ValueError("knots and heights must ascend, and be as many")
        if not all(map(math.isfinite, self.knots)) or not 0 < self.heights[0] <= self.heights[-1] <= 1:
            raise ValueError("knots must be finite, and heights in (0, 1]")
        if not 0 < self.tail <= _LARGEST:
            raise ValueError(f"tail must be positive, found {self.tail}")


@dataclass(frozen=True)
class Merged:
    """A score made of others: their p-values, merged (:func:`export.detectors.combined.merged.merge`).

    Attributes:
        method: ``min``, ``harmonic`` or ``fisher``.
        n: number of in-distribution images behind the curves; none of them set the threshold.
        parts: the p-value curve of each score that is merged.
    """

    method: MergeMethod
    n: int
    parts: dict[str, PValueCurve]


@dataclass(frozen=True)
class Confidence:
    """How the reported confidence was calibrated.

    Attributes:
        temperature: T of the reported probabilities, softmax(f / T) or sigmoid(f / T).
        n: number of labelled images that it was fitted on.
        ece_before, ece_after: expected calibration error on these images, with 15 bins
            (:func:`export.calibrate.confidence.expected_calibration_error`), at T = 1 and after scaling.
        held_out: whether they are means over two halves of the images, each scaled by the temperature that the other half
            sets, and so of images that did not set it. Otherwise `ece_after` is at `temperature`, which the same
            images set, and too small.
    """

    temperature: float
    n: int
    ece_before: float
    ece_after: float
    held_out: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature must be positive, found {self.temperature}")


@dataclass(frozen=True)
class Parity:
    """How a bundle of another precision differs from the fp32 one it was made of, on the images of its calibration.

    Attributes:
        source, images: which, and how many.
        label_agreement: share of images that both predict as the same class.
        mean_logit_difference, max_logit_difference: of the absolute differences of all logits. These three are None of models
            without classes.
        newly_rejected, newly_accepted: images whose decision differs, each bundle at its own threshold. These two, and what
            follows, are None once there is another gate, or operating point, than the one that they tell of.
        flips_with_fp32_threshold: images whose decision would differ, had the threshold of the fp32 bundle been kept; None
            where the two gates have different scores.
        flips_with_own_threshold: images whose decision differs where the fp32 graph is held against this bundle's threshold,
            as an engine without its precision does; None where the two gates have different scores, or an earlier version
            made the bundle.
    """

    source: str
    images: int
    label_agreement: float | None
    mean_logit_difference: float | None
    max_logit_difference: float | None
    newly_rejected: int | None
    newly_accepted: int | None
    flips_with_fp32_threshold: int | None
    flips_with_own_threshold: int | None = None

    def __post_init__(self) -> None:
        if (self.newly_rejected is None) != (self.newly_accepted is None):
            raise ValueError("newly_rejected and newly_accepted must be given together")

    @property
    def flips(self) -> int | None:
        """Images whose decision differs, each bundle at its own threshold."""
        if self.newly_rejected is None or self.newly_accepted is None:
            return None
        return self.newly_rejected + self.newly_accepted

    @property
    def of_graph(self) -> Parity | None:
        """What holds with any gate; None of models without classes, of which nothing but decisions is compared."""
        if self.label_agreement is None:
            return None
        return Parity(
            self.source,
            self.images,
            self.label_agreement,
            self.mean_logit_difference,
            self.max_logit_difference,
            newly_rejected=None,
            newly_accepted=None,
            flips_with_fp32_threshold=None,
        )


def _check_point(threshold: float, tpr_interval: tuple[float, float], max_rejection: float) -> None:
    if not abs(threshold) <= _LARGEST:
        raise ValueError(f"threshold must be a finite float32, found {threshold}")
    if not 0 <= tpr_interval[0] <= tpr_interval[1] <= 1:
        raise ValueError(f"tpr_interval must ascend within [0, 1], found {list(tpr_interval)}")
    if not 0 <= max_rejection <= 1:
        raise ValueError(f"max_rejection must be in [0, 1], found {max_rejection}")
