"""What a gate promises, in sentences that may be quoted."""

from __future__ import annotations

from runtime.manifest.labelled import ErrorBound


def rejection_promise(alpha: float, confidence: float | None, n: int, *, by_class: bool) -> str:
    """The bound on how many in-distribution images are rejected as out of distribution.

    Args:
        alpha: the bound.
        confidence: of a PAC threshold; None for the marginal guarantee.
        n: number of calibration images.
        by_class: whether the bound is kept within each predicted class that has a threshold of its own.
    """
    if confidence is None:
        of = "one that is predicted as a class with a threshold of its own" if by_class else "an image like them"
        return (
            f"Calibrated on {n:,} in-distribution images: {of} is rejected as out of distribution with probability at "
            f"most {percent(alpha)}, on average over calibration sets."
        )
    of = " of those predicted as a class with a threshold of its own, for each such class by itself" if by_class else ""
    return (
        f"With {percent(confidence)} confidence over the draw of its {n:,} calibration images, this gate rejects at most "
        f"{percent(alpha)} of in-distribution images as out of distribution{of}."
    )


def error_promise(bound: ErrorBound) -> str:
    """The bound on how many accepted in-distribution images are classified wrong."""
    return (
        f"With {percent(bound.confidence)} confidence over the draw of {bound.n:,} labelled test images, at most "
        f"{percent(bound.rate)} of the in-distribution images that it accepts are classified wrong."
    )


def percent(share: float) -> str:
    """A share as it was given, in percent."""
    return f"{100 * share:.6g} %"
