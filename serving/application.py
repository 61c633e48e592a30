"""The whole service as one ASGI application, of the settings in the environment; no BentoML is imported."""

from __future__ import annotations

import socket
from functools import partial

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime import native
from runtime.exceptions import OodgateError
from serving.http.app import create_app, is_full
from serving.http.connections import BoundedProtocol
from serving.http.middleware import guarded
from serving.internals import number_worker
from serving.process.checks import checked_settings
from serving.process.server import configure_logging
from serving.process.workers import REFUSED
from serving.settings import Settings


def behind_guards(served: ASGIApp, app: Starlette, settings: Settings) -> ASGIApp:
    """`served`, which is `app` or holds it, behind ids, metrics, keys and limits, and this process made ready for it."""
    BoundedProtocol.install(settings, app.routes)
    native.settle()
    return Refusing(guarded(served, settings, partial(is_full, app), app.routes), app)


class Refusing:
    """Says in one line why the application refuses to start, where a traceback would stand."""

    def __init__(self, served: ASGIApp, app: Starlette) -> None:
        self._served = served
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def told(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed" and self._app.state.refusal:
                message = {**message, "message": self._app.state.refusal}
            await send(message)

        await self._served(scope, receive, told if scope["type"] == "lifespan" else send)


def work(descriptor: int, number: int) -> int:
    """What a worker of :mod:`serving.process.server` does; its exit status.

    Where the settings can't be used nothing is said: the process that started it finds the same, and says so.

    Args:
        descriptor: of the socket to serve on.
        number: of the worker among those that serve at the same time, from 1.
    """
    configure_logging()
    try:
        settings = checked_settings()
    except OodgateError:
        return REFUSED
    if settings.monitor:
        number_worker(number)
    app = create_app(settings)
    config = uvicorn.Config(
        behind_guards(app, app, settings),
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
    )
    server = uvicorn.Server(config)
    server.run(sockets=[socket.socket(fileno=descriptor)])
    return 0 if server.started else REFUSED
