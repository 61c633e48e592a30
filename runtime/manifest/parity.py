"""What another precision changed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Parity:
    """How a bundle of another precision differs from the fp32 one it was made of, on the images of its calibration.

    Attributes:
        source, images: which, and how many.
        label_agreement: share of images that both predict as the same class.
        mean_logit_difference, max_logit_difference: of the absolute differences of all logits.
        newly_rejected, newly_accepted: images whose decision differs, each bundle at its own threshold.
        flips_with_fp32_threshold: images whose decision would differ, had the threshold of the fp32 bundle been kept; None
            where the two gates have different scores.
    """

    source: str
    images: int
    label_agreement: float
    mean_logit_difference: float
    max_logit_difference: float
    newly_rejected: int
    newly_accepted: int
    flips_with_fp32_threshold: int | None
