"""Whether the process lives and is ready, and what BentoML's clients ask of a service before they call it."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from serving.deciding.decider import Decider
from serving.exceptions import RequestError
from serving.http.errors import JsonResponse

_FILE = {"type": "file", "format": "binary"}


async def _well(request: Request) -> Response:
    """A worker listens from when its bundle is loaded: whoever is answered at all is ready, while the engine works. Where it
    no longer does, the process is not alive either: what a GPU has lost comes back with another."""
    await check_engine(request)
    return PlainTextResponse("\n")


async def check_engine(request: Request) -> None:
    """Raises RequestError, 503, where batch after batch fails."""
    decider: Decider | None = request.app.state.decider
    if decider is not None and not await decider.works():
        raise RequestError(503, "engine_failed", "the engine fails on batch after batch; the log says why")


async def _schema(_: Request) -> Response:
    return JsonResponse(SCHEMA)


def _endpoint(name: str, parameter: str, kind: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "route": f"/{name}",
        "batchable": False,
        "is_task": False,
        "input": {
            "title": "Input",
            "type": "object",
            "properties": {parameter: {**kind, "title": parameter.title()}},
            "required": [parameter],
        },
        "output": {"type": "object", "additionalProperties": True},
    }


SCHEMA = {
    "name": "oodgate",
    "type": "service",
    "description": "Classifies an image, or rejects it as out of distribution.",
    "routes": [
        _endpoint("classify", "image", _FILE),
        _endpoint("classify_batch", "images", {"type": "array", "items": _FILE}),
    ],
}
"""What BentoML makes of :class:`serving.service.OodGate`, but for the paths of what is mounted."""

ROUTES: list[BaseRoute] = [
    Route("/livez", _well),
    Route("/healthz", _well),
    Route("/readyz", _well),
    Route("/schema.json", _schema),
]
