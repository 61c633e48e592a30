"""The HTTP application: a plain Starlette app, mounted in the BentoML service and usable without it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

import runtime
from runtime.exceptions import OodgateError
from serving.deciding.decider import Decider
from serving.deciding.deployment import Deployment
from serving.http.errors import HANDLERS, JsonResponse
from serving.http.openapi.document import document
from serving.http.requests.memory import Budget
from serving.http.routes import classify, model, monitoring, open_inference, outcomes, process
from serving.metrics import CONTENT_TYPE, exposition, metrics
from serving.settings import Settings

PAGE = Path(__file__).resolve().parents[1] / "page"

_PAGE_HEADERS = {
    "cache-control": "no-cache",  # its files carry no version in their names
    "content-security-policy": "default-src 'self'; img-src 'self' blob: data:; base-uri 'none'; frame-ancestors 'none'",
}

_SAMPLED = 0.25  # seconds between looks at the queue, and between entries into histograms


def create_app(settings: Settings) -> Starlette:
    """The application; its lifespan loads, verifies and warms up the bundle.

    Raises (when the lifespan starts):
        OodgateError: a bundle that must not be served, or an engine that can't; in ``app.state.refusal`` too.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        try:
            deployment = Deployment(settings)
        except OodgateError as error:
            app.state.refusal = " ".join(str(error).split())
            raise
        app.state.deployment, app.state.decider = deployment, deployment.decider
        app.state.parsers = CapacityLimiter(1)  # a tensor in JSON takes ten times its bytes while it is parsed
        sampler = asyncio.ensure_future(_sample(deployment.decider, app.state.budget))
        gc.collect()
        gc.freeze()  # what is loaded now stays, and need not be looked through while requests wait
        yield
        app.state.decider = None
        sampler.cancel()
        await deployment.close()
        metrics().settle()

    routes = [
        *classify.ROUTES,
        *model.ROUTES,
        *monitoring.ROUTES,
        *outcomes.ROUTES,
        *open_inference.ROUTES,
        *process.ROUTES,
        Route("/metrics", _metrics),
        Route("/openapi.json", _openapi),
        Route("/", _page),
        Route("/rejects.html", _rejects_page),
        Mount("/page", _PageFiles(directory=PAGE)),
    ]
    app = Starlette(routes=routes, exception_handlers=HANDLERS, lifespan=lifespan)
    app.router.redirect_slashes = False  # to an absolute address, which is not ours behind a proxy
    app.state.settings = settings
    app.state.decider, app.state.refusal = None, ""
    app.state.budget = Budget(settings.body_memory)
    return app


def is_full(app: Starlette, client: str, crowd: bool) -> bool:
    """Whether a client's single image would be refused now, where there is a crowd or else."""
    decider: Decider | None = app.state.decider
    return decider is not None and decider.room.is_full(bulk=False, crowd=crowd, client=client)


async def _sample(decider: Decider, budget: Budget) -> None:
    while True:
        metrics().queue(decider.waiting)
        metrics().bodies(budget.in_hand)
        metrics().settle()
        await asyncio.sleep(_SAMPLED)


class _PageFiles(StaticFiles):
    """The page's files, with the page's headers."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update(_PAGE_HEADERS)
        return response


async def _metrics(_: Request) -> Response:
    metrics().settle()
    return Response(await to_thread.run_sync(exposition), media_type=CONTENT_TYPE)


async def _openapi(request: Request) -> Response:
    settings: Settings = request.app.state.settings
    return JsonResponse(document(runtime.__version__, secured=bool(settings.api_keys)))


async def _page(_: Request) -> Response:
    return FileResponse(PAGE / "index.html", headers=_PAGE_HEADERS)


async def _rejects_page(_: Request) -> Response:
    return FileResponse(PAGE / "rejects.html", headers=_PAGE_HEADERS)
