"""Is a file of another precision still the same classifier?"""

from __future__ import annotations

from runtime.manifest import Parity, Precision

_AGREEMENT = 0.9  # share of images of the same predicted class, below which it is not


def precision_warning(precision: Precision, parity: Parity | None) -> str | None:
    """That too many images change their class, or without classes their decision, and what to do; None where they don't."""
    if parity is None:
        return None
    agreement, what = parity.label_agreement, "predicts another class than fp32 for"
    if agreement is None and parity.flips is not None:
        agreement, what = 1 - parity.flips / parity.images, "decides otherwise than fp32 on"
    if agreement is None or agreement >= _AGREEMENT:
        return None
    other = (
        "other --int8-method, --int8-keep first,last, more images, or --precision fp16"
        if precision == "int8"
        else "fp32"
    )
    return (
        f"NOT FIT FOR USE: {precision} {what} {100 * (1 - agreement):.0f} % of "
        f"{parity.images} images of {parity.source}; take {other}"
    )
