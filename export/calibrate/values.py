"""The values of the gate's options, read from text."""

from __future__ import annotations

import math
from typing import Literal

from export.exceptions import ExportError

AUTO: Literal["auto"] = "auto"
NONE: Literal["none"] = "none"


def temperature(text: str) -> float | Literal["auto"]:
    """``auto`` or a positive number.

    Raises:
        ExportError: neither.
    """
    if text == AUTO:
        return AUTO
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ExportError(f"--temperature must be positive or {AUTO}, found {text}")
    return value


def max_error(text: str) -> float | Literal["none"]:
    """``none`` or a share.

    Raises:
        ExportError: neither.
    """
    return NONE if text == NONE else _share("--max-error", text)


def coverages(text: str) -> tuple[float, ...]:
    """``none`` or shares, separated by commas, ascending.

    Raises:
        ExportError: neither.
    """
    return () if text == NONE else tuple(sorted({_share("--prediction-sets", part) for part in text.split(",")}))


def _share(option: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1:
        raise ExportError(f"{option} must be between 0 and 1, or {NONE}, found {text}")
    return value
