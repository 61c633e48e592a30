"""What every request passes on its way in and out: an id, the metrics, the log line, the keys, the limits and the span."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Callable, Sequence
from random import uniform
from time import monotonic, perf_counter, time

import orjson
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.exceptions import OVERLOADED, TOO_MANY_REQUESTS, RequestError
from serving.http.errors import Refusal, error_response
from serving.http.requests.client import client_of
from serving.internals import route_template, tracer_provider
from serving.keys import Keys
from serving.metrics import metrics
from serving.settings import Settings

HEALTH = frozenset({"/livez", "/readyz", "/healthz", "/v2/health/live", "/v2/health/ready"})

# What a client may call its request; anything else is not repeated in logs and answers.
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")

# Refusals a second that come at once, and the seconds that any further one takes: drawn by chance, or a crowd that came
# together would be answered together, and come together again.
_FREE_REFUSALS, _SHORTEST_PAUSE, _LONGEST_PAUSE = 100, 0.5, 1.5

# Of the Open Inference Protocol's binary tensors, in requests and answers.
_HEADER_LENGTH = "inference-header-content-length"

_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]
_NO_CONTENT = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")


def guarded(
    app: ASGIApp, settings: Settings, is_full: Callable[[str, bool], bool], routes: Sequence[BaseRoute] = ()
) -> ASGIApp:
    """`app` behind everything that this module's docstring names.

    Args:
        app: answers what is let through.
        settings: of the limits, the keys and the log.
        is_full: whether too many single images are in hand for a client, in a crowd or else.
        routes: those of `app`, by which requests are counted that don't get as far.
    """
    app = Admission(_traced(app) if settings.tracing else app, settings.max_concurrency, is_full)
    if settings.api_keys:
        app = Locked(app, Keys(settings.api_keys))
    if settings.cors_origins:
        app = CORSMiddleware(
            app,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "HEAD", "POST", "DELETE"],
            allow_headers=["authorization", "content-type", "x-api-key", "x-request-id", _HEADER_LENGTH],
            expose_headers=["x-request-id", "retry-after", _HEADER_LENGTH],
        )
    return Observed(app, settings.access_log, routes)


class Observed:
    """Gives each request an id, counts it by its route's template, and logs it as a line of JSON if asked to.

    A line holds the id, the route, the path, the status, the bytes announced and the time taken, never a body, a query
    or a key.
    """

    def __init__(self, app: ASGIApp, access_log: bool, routes: Sequence[BaseRoute] = ()) -> None:
        self._app = app
        self._access_log = access_log
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = perf_counter(), 500
        request_id = _request_id(scope)
        scope["oodgate.request_id"] = request_id.decode()

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message["headers"] = [*message.get("headers", ()), *_HEADERS, (b"x-request-id", request_id)]
                if not any(name == b"content-security-policy" for name, _ in headers):
                    headers.append(_NO_CONTENT)
            await send(message)

        try:
            await self._app(scope, receive, observed)
        finally:
            seconds = perf_counter() - start
            route = self._route(scope)
            metrics().request(route, status, seconds)
            if self._access_log:
                self._log(scope, route, status, seconds)

    def _route(self, scope: Scope) -> str:
        """The template of the route that answered a request, or that it was refused before it came to."""
        if "router" in scope:
            return route_template(scope)
        matching = (route for route in self._routes if route.matches(scope)[0] is Match.FULL)
        return route_template({"route": next(matching, None)})

    def _log(self, scope: Scope, route: str, status: int, seconds: float) -> None:
        length = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        line = {
            "time": round(time(), 3),
            "request_id": scope["oodgate.request_id"],
            "method": scope["method"],
            "route": route,
            "path": scope["path"][:256],
            "status": status,
            "seconds": round(seconds, 6),
            "bytes": int(length[:18]) if length.isdigit() else None,
            "client": (scope.get("client") or [None])[0],
        }
        sys.stdout.buffer.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        sys.stdout.buffer.flush()


class Locked:
    """Lets in whoever has a key, and everybody who asks after the service's health."""

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in HEALTH and not self._admits(scope):
            error = RequestError(
                401,
                "unauthorized",
                "send a key: `Authorization: Bearer KEY` or `X-API-Key: KEY`",
                www_authenticate='Basic realm="oodgate"',  # alone, or Chromium asks nobody
            )
            await error_response(scope["path"], error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _admits(self, scope: Scope) -> bool:
        scope["oodgate.key"] = self._keys.digest(scope["headers"])
        return bool(scope["oodgate.key"])


class Admission:
    """Refuses what the service can't carry, before a body is read.

    Under overload most answers are refusals, and the accepted wait while they are made. So they are made beforehand, and
    come at once only while they are few: a crowd that asks again as soon as it is refused is kept waiting for a moment,
    or the service would do nothing but refuse. And while there is a crowd, fewer images are let in: a queue that is there for
    bursts would always be full, and bring nothing but waiting to those in it.
    """

    def __init__(self, app: ASGIApp, limit: int, is_full: Callable[[str, bool], bool]) -> None:
        self._app = app
        self._limit = limit
        self._is_full = is_full
        self._in_progress = 0
        self._window, self._refused, self._refused_before = 0.0, 0, 0  # a second's beginning, and refusals in it
        self._too_many = Refusal(TOO_MANY_REQUESTS)
        self._overloaded = Refusal(OVERLOADED)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in HEALTH or scope["path"] == "/metrics":
            await self._app(scope, receive, send)
            return
        if self._in_progress >= self._limit:
            await self._slow_down()
            await self._too_many(scope, receive, send)
            return
        if scope["path"] == "/classify" and self._is_full(client_of(scope), self._is_crowd()):
            await self._slow_down()
            await self._overloaded(scope, receive, send)
            return
        self._in_progress += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._in_progress -= 1

    def _is_crowd(self) -> bool:
        """Whether many requests were refused in this second or the last."""
        passed = monotonic() - self._window
        if passed > 1:
            self._refused_before = self._refused if passed < 2 else 0
            self._window, self._refused = self._window + passed, 0
        return max(self._refused, self._refused_before) > _FREE_REFUSALS

    async def _slow_down(self) -> None:
        """Let a refusal wait where there is a crowd."""
        self._refused += 1
        if self._is_crowd():
            await asyncio.sleep(uniform(_SHORTEST_PAUSE, _LONGEST_PAUSE))


def _traced(app: ASGIApp) -> ASGIApp:
    """With an OpenTelemetry span for each request, exported as BentoML's configuration says."""
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

    traced: ASGIApp = OpenTelemetryMiddleware(app, tracer_provider=tracer_provider())
    return traced


def _request_id(scope: Scope) -> bytes:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return bytes(value)
    return os.urandom(16).hex().encode()
