"""Which of the bundle's operating points a request asks for: ``?alpha=0.01``."""

from __future__ import annotations

import math

from starlette.requests import Request


def asked_alpha(request: Request) -> float | None:
    """The alpha of the query; None without one, and NaN, for which nothing is stored, where it is no number."""
    if not request.scope["query_string"]:
        return None
    text = request.query_params.get("alpha")
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        return math.nan
