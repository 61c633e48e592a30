"""Who sent a request."""

from __future__ import annotations

from functools import partial

from starlette.requests import Request

from serving.deciding.decider import Caller


def caller(request: Request) -> Caller:
    """The caller of a request whose body has been read."""
    return Caller(request.scope.get("oodgate.request_id", ""), partial(_gone, request))


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
