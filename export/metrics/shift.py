"""Shifted images: of the model's classes, and yet not as those that it was calibrated on. Blurred, or of another camera."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from export.metrics.detection import Detection, detection
from export.metrics.intervals import Interval, share
from export.metrics.observation import Observed

_MOST = 0.5  # of the images: with more rejected
_WELL = 0.75  # of the accuracy on images that are not shifted: with as much the model still classifies well


@dataclass(frozen=True)
class Shifted:
    """What happens to shifted images; every interval is one of 95 %, and accuracies are None for want of labels or images.

    Attributes:
        source, images: which, and how many.
        rejection, rejection_interval: share rejected at the stored thresholds.
        accuracy, accuracy_interval: share classified right, whatever the gate says.
        accuracy_accepted, accuracy_accepted_interval: the same among those accepted.
        accuracy_rejected, accuracy_rejected_interval: the same among those rejected.
        needless: whether the gate takes most for unknown although the model still classifies well: more than half, at an
            accuracy of at least three quarters of that on images that are not shifted. None without labels.
        uncertain: share that the gate takes for known and that is rejected as uncertain; None where nothing bounds the error
            of accepted images.
    """

    source: str
    images: int
    rejection: float
    rejection_interval: Interval
    accuracy: float | None
    accuracy_interval: Interval | None
    accuracy_accepted: float | None
    accuracy_accepted_interval: Interval | None
    accuracy_rejected: float | None
    accuracy_rejected_interval: Interval | None
    needless: bool | None
    uncertain: float | None = None


def shifted(observed: Observed, accuracy: float | None) -> Shifted:
    """The figures of one set.

    Args:
        observed: its images.
        accuracy: on images that are not shifted, if known.
    """
    rejected, total = int((~observed.accept).sum()), len(observed)
    everywhere, everywhere_interval = observed.accuracy()
    of_accepted, of_accepted_interval = observed.accuracy(observed.accept)
    of_rejected, of_rejected_interval = observed.accuracy(~observed.accept)
    needless = None
    if everywhere is not None and accuracy is not None:
        unknown = rejected / total - (observed.uncertain or 0)
        needless = unknown > _MOST and everywhere >= _WELL * accuracy
    return Shifted(
        source=observed.source,
        images=total,
        rejection=rejected / total,
        rejection_interval=share(rejected, total),
        accuracy=everywhere,
        accuracy_interval=everywhere_interval,
        accuracy_accepted=of_accepted,
        accuracy_accepted_interval=of_accepted_interval,
        accuracy_rejected=of_rejected,
        accuracy_rejected_interval=of_rejected_interval,
        needless=needless,
        uncertain=observed.uncertain,
    )


def full_spectrum(
    scores: Sequence[str], known: Observed, moved: Sequence[Observed], unknown: Mapping[str, Observed]
) -> dict[str, dict[str, Detection]]:
    """How well each score separates each OOD set from known images, shifted ones among them (OpenOOD's FS-OOD).

    The known images of all sets are pooled, each counting once (Yang et al. 2023, arXiv 2204.05306).

    Returns:
        by OOD set and score; nothing without shifted images.
    """
    if not moved:
        return {}
    pooled = np.concatenate([one.scores for one in (known, *moved)])
    return {
        name: {score: detection(pooled[:, i], images.scores[:, i]) for i, score in enumerate(scores)}
        for name, images in unknown.items()
    }
