"""The whole application in this process, without a socket or BentoML."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx
from starlette.applications import Starlette

from runtime.bundle import Bundle
from serving.http.app import create_app, is_full
from serving.http.middleware import guarded
from serving.settings import Settings


@asynccontextmanager
async def application(bundle: Bundle, **settings: Any) -> AsyncIterator[tuple[httpx.AsyncClient, Starlette]]:
    """A client of the application with `settings`, and the application behind its guards."""
    chosen = dataclasses.replace(Settings(bundle=bundle.path, max_images=8, tune=False), **settings)
    app = create_app(chosen)
    transport = httpx.ASGITransport(guarded(app, chosen, partial(is_full, app), app.routes))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://oodgate") as client,
    ):
        yield client, app
