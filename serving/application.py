"""The whole service as one ASGI application, of the settings in the environment; no BentoML is imported."""

from __future__ import annotations

import sys
from functools import partial

from starlette.applications import Starlette
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.config import STARTUP_FAILURE

from runtime import native
from runtime.exceptions import OodgateError
from serving.http.app import create_app, is_full
from serving.http.connections import BoundedProtocol
from serving.http.middleware import guarded
from serving.process.checks import checked_settings
from serving.process.server import configure_logging
from serving.process.workers import end_with_parent
from serving.settings import Settings


def behind_guards(served: ASGIApp, app: Starlette, settings: Settings) -> ASGIApp:
    """`served`, which is `app` or holds it, behind ids, metrics, keys and limits, and this process made ready for it."""
    BoundedProtocol.install(settings)
    native.settle()
    return Refusing(guarded(served, settings, partial(is_full, app)), app)


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


def application() -> ASGIApp:
    """What a worker of :mod:`serving.process.server` runs.

    Where the settings can't be used it ends the process: the one that started it finds the same, and says so.
    """
    configure_logging()
    end_with_parent()
    try:
        settings = checked_settings()
    except OodgateError:
        sys.exit(STARTUP_FAILURE)
    app = create_app(settings)
    return behind_guards(app, app, settings)
