"""What a request may ask in its query.

``?alpha=0.01`` decides at another operating point, ``?top=5`` names the most probable classes, ``?set=0.95`` the label set.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request

from runtime import Decision
from serving.deciding.served import Use
from serving.exceptions import RequestError

MOST = 100


def read_query(request: Request, *known: str) -> dict[str, str]:
    """What the query says.

    Args:
        request: with or without a query.
        known: the names that the route takes, each at most once.

    Raises:
        RequestError: 400, it has others, or one twice.
    """
    if not request.scope["query_string"]:
        return {}
    pairs = request.query_params.multi_items()
    query = dict(pairs)
    if len(query) < len(pairs) or not query.keys() <= set(known):
        found = ", ".join(f"{name[:40]!a}" for name, _ in pairs[:10])
        raise RequestError(400, "bad_request", f"the query takes {', '.join(known)}, each once; found {found}")
    return query


def asked_alpha(query: Mapping[str, str]) -> float | None:
    """The alpha of a query; None without one, and NaN, for which nothing is stored, where it is no number."""
    if "alpha" not in query:
        return None
    try:
        return float(query["alpha"])
    except ValueError:
        return math.nan


def asked_top(query: Mapping[str, str]) -> int:
    """How many classes a query asks for; 0 without one. A model without classes names none.

    Raises:
        RequestError: 400, no whole number from 1 to 100.
    """
    return whole("top", query["top"], MOST) if "top" in query else 0


def whole(name: str, text: str, most: int) -> int:
    """A number of a query.

    Raises:
        RequestError: 400, no whole number from 1 to `most`.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(most)) and 1 <= int(text) <= most):
        raise RequestError(400, "bad_request", f"{name} must be a whole number from 1 to {most}")
    return int(text)


def asked_set(query: Mapping[str, str], use: Use) -> float | None:
    """The coverage of the label sets that a query asks for; None without one.

    Args:
        query: of the request.
        use: what decides, which has the sets of its operating point.

    Raises:
        RequestError: 400, no sets of this coverage are stored for the operating point.
    """
    if "set" not in query:
        return None
    coverages = [one.coverage for one in use.point.sets]
    try:
        coverage = float(query["set"])
    except ValueError:
        coverage = math.nan
    if coverage not in coverages:
        none = "python -m export.calibrate --prediction-sets makes them"
        if not use.gate.manifest.labels:
            none = "the model has no classes"
        stored = ", ".join(f"{one:g}" for one in coverages) or f"none; {none}"
        raise RequestError(400, "unknown_set", f"set must be one of the coverages that are stored: {stored}")
    return coverage


def decision_json(decision: Decision, labels: Sequence[str], top: int, coverage: float | None = None) -> dict[str, Any]:
    """A decision's JSON object, with its `top` most probable classes and its label set if any were asked for.

    The label set is null where the image is out of distribution.
    """
    document = decision.to_dict()
    if top:
        document["top"] = _classes(decision.top(top), labels)
    if coverage is not None:
        members = _classes(decision.label_set(coverage), labels)
        document["set"] = None if decision.is_ood else {"coverage": coverage, "labels": members}
    return document


def _classes(ranked: Sequence[tuple[int, float]], labels: Sequence[str]) -> list[dict[str, Any]]:
    return [{"label": labels[k], "class_index": k, "probability": p} for k, p in ranked]
