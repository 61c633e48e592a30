"""The HTTP application: a plain Starlette app, mounted in the BentoML service and usable without it."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

import runtime
from runtime import Decision, Gate
from runtime.bundle import MODEL
from serving.async_gate import AsyncGate
from serving.body import read_image, read_images
from serving.errors import HANDLERS, image_error
from serving.json_response import JsonResponse
from serving.metrics import metrics
from serving.settings import Settings

PAGE = Path(__file__).resolve().parent / "page"

_PAGE_HEADERS = {
    "cache-control": "no-cache",  # its files carry no version in their names
    "content-security-policy": "default-src 'self'; img-src 'self' blob: data:; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
}

_PUBLIC = (
    "schema_version",
    "model",
    "task",
    "labels",
    "input",
    "scores",
    "score_parameters",
    "merged",
    "gate",
    "confidence",
)

logger = logging.getLogger("oodgate")


def create_app(settings: Settings) -> Starlette:
    """The application; its lifespan loads, verifies and warms up the bundle.

    Raises (when the lifespan starts):
        BundleError: a bundle that must not be served.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        gate = Gate.load(settings.bundle, threads=settings.engine_threads, limits=settings.limits, alpha=settings.alpha)
        gate.warm_up()
        metrics()
        app.state.gate = AsyncGate(gate, settings.concurrency)
        logger.info("serving %s on %s", settings.bundle, gate.engine.name)
        yield

    routes = [
        Route("/classify", _classify, methods=["POST"]),
        Route("/classify_batch", _classify_batch, methods=["POST"]),
        Route("/model", _model),
        Route("/", _page),
        Mount("/page", _PageFiles(directory=PAGE)),
    ]
    app = Starlette(routes=routes, exception_handlers=HANDLERS, lifespan=lifespan)
    app.state.settings = settings
    app.state.gate = None
    return app


class _PageFiles(StaticFiles):
    """The page's files, with the page's headers."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update(_PAGE_HEADERS)
        return response


async def _classify(request: Request) -> Response:
    gate: AsyncGate = request.app.state.gate
    settings: Settings = request.app.state.settings
    with metrics().timed("/classify"):
        decision = await gate.decide(await read_image(request, settings.max_bytes))
        return JsonResponse(_counted(decision))


async def _classify_batch(request: Request) -> Response:
    gate: AsyncGate = request.app.state.gate
    settings: Settings = request.app.state.settings
    with metrics().timed("/classify_batch"):
        results = await gate.decide_each(await read_images(request, settings.max_images, settings.max_body))
        return JsonResponse({"results": [_counted(r) if isinstance(r, Decision) else image_error(r) for r in results]})


async def _model(request: Request) -> Response:
    gate: Gate = request.app.state.gate.gate
    manifest = dataclasses.asdict(gate.manifest)
    public = {name: manifest[name] for name in _PUBLIC}
    sha256 = gate.manifest.files[MODEL].sha256
    return JsonResponse({**public, "sha256": sha256, "engine": gate.engine.name, "version": runtime.__version__})


async def _page(_: Request) -> Response:
    return FileResponse(PAGE / "index.html", headers=_PAGE_HEADERS)


def _counted(decision: Decision) -> dict[str, Any]:
    metrics().count_decision(decision.decision)
    return decision.to_dict()
