"""The most probable classes, for who asks: ``?top=5``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request

from runtime import Decision
from serving.http.errors import RequestError

MOST = 100


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
