"""What a request may ask in its query: an operating point, ``?alpha=0.01``, and the most probable classes, ``?top=5``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request

from runtime import Decision
from serving.exceptions import RequestError

MOST = 100


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


def asked_top(request: Request) -> int:
    """How many classes the query asks for; 0 without one.

    Raises:
        RequestError: 400, no whole number from 1 to 100.
    """
    if not request.scope["query_string"]:
        return 0
    text = request.query_params.get("top", "")
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= MOST):
        raise RequestError(400, "bad_request", f"top must be a whole number from 1 to {MOST}")
    return int(text)


def decision_json(decision: Decision, labels: Sequence[str], top: int) -> dict[str, Any]:
    """A decision's JSON object, with its `top` most probable classes if any were asked for."""
    if top == 0:
        return decision.to_dict()
    ranked = [{"label": labels[k], "class_index": k, "probability": p} for k, p in decision.top(top)]
    return {**decision.to_dict(), "top": ranked}
