"""The HTTP application: a plain Starlette app, mounted in the BentoML service and usable without it."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

from anyio import to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

import runtime
from runtime import Decision, Gate, ImageError
from runtime.bundle import MODEL
from serving import inference_routes
from serving.caller import caller
from serving.deciding.decider import Decider
from serving.deciding.deployment import Deployment
from serving.histogram import calibration_histogram
from serving.http import monitoring as watching_routes
from serving.http import openapi
from serving.http.body import read_image, read_images
from serving.http.errors import HANDLERS, image_error
from serving.http.query import asked_top, decision_json
from serving.json_response import JsonResponse
from serving.metrics import CONTENT_TYPE, exposition, metrics
from serving.operating_point import asked_alpha
from serving.settings import Settings

PAGE = Path(__file__).resolve().parent / "page"

_PAGE_HEADERS = {
    "cache-control": "no-cache",  # its files carry no version in their names
    "content-security-policy": "default-src 'self'; img-src 'self' blob: data:; base-uri 'none'; frame-ancestors 'none'",
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

_SAMPLED = 0.25  # seconds between looks at the queue, and between entries into histograms


def create_app(settings: Settings) -> Starlette:
    """The application; its lifespan loads, verifies and warms up the bundle.

    Raises (when the lifespan starts):
        BundleError: a bundle that must not be served.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        deployment = Deployment(settings)
        app.state.deployment, app.state.decider = deployment, deployment.decider
        sampler = asyncio.ensure_future(_sample(deployment.decider))
        gc.collect()
        gc.freeze()  # what is loaded now stays, and need not be looked through while requests wait
        yield
        app.state.decider = None
        sampler.cancel()
        await deployment.close()
        metrics().settle()

    routes = [
        Route("/classify", _classify, methods=["POST"]),
        Route("/classify_batch", _classify_batch, methods=["POST"]),
        Route("/model", _model),
        Route("/metrics", _metrics),
        Route("/openapi.json", _openapi),
        *inference_routes.ROUTES,
        *watching_routes.ROUTES,
        Route("/", _page),
        Route("/rejects.html", _rejects_page),
        Mount("/page", _PageFiles(directory=PAGE)),
    ]
    app = Starlette(routes=routes, exception_handlers={**HANDLERS, **watching_routes.HANDLERS}, lifespan=lifespan)
    app.state.settings = settings
    app.state.decider = None
    return app


def is_full(app: Starlette, crowd: bool) -> bool:
    """Whether as many single images are in hand as may be, or half as many while there is a crowd."""
    decider: Decider | None = app.state.decider
    return decider is not None and decider.is_full(bulk=False, crowd=crowd)


async def _sample(decider: Decider) -> None:
    while True:
        metrics().queue(decider.waiting)
        metrics().settle()
        await asyncio.sleep(_SAMPLED)


class _PageFiles(StaticFiles):
    """The page's files, with the page's headers."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update(_PAGE_HEADERS)
        return response


async def _classify(request: Request) -> Response:
    decider: Decider = request.app.state.decider
    settings: Settings = request.app.state.settings
    top = asked_top(request)
    with decider.using(asked_alpha(request)) as use:
        start = perf_counter()
        image = await read_image(request, settings.max_bytes)
        metrics().read(perf_counter() - start)
        decision = await decider.decide(image, caller(request), use)
    return JsonResponse(decision_json(decision, use.gate.manifest.labels, top))


async def _classify_batch(request: Request) -> Response:
    decider: Decider = request.app.state.decider
    settings: Settings = request.app.state.settings
    results: list[Decision | ImageError]
    top = asked_top(request)
    with decider.using(asked_alpha(request)) as use:
        spec = use.gate.manifest.input
        start = perf_counter()
        images = await read_images(request, (spec.height, spec.width, 3), settings.max_images, settings.max_body)
        metrics().read(perf_counter() - start)
        if isinstance(images, list):
            results = await decider.decide_each(images, caller(request), use)
        else:
            results = [*await decider.decide_array(images, caller(request), use)]
    labels = use.gate.manifest.labels
    return JsonResponse(
        {
            "results": [
                decision_json(result, labels, top) if isinstance(result, Decision) else image_error(result)
                for result in results
            ]
        }
    )


async def _model(request: Request) -> Response:
    watching = request.app.state.deployment.watching
    gate: Gate = request.app.state.decider.gate
    manifest = dataclasses.asdict(gate.manifest)
    public = {name: manifest[name] for name in _PUBLIC}
    sha256 = gate.manifest.files[MODEL].sha256
    return JsonResponse(
        {
            **public,
            "sha256": sha256,
            "engine": gate.engine.name,
            "version": runtime.__version__,
            "calibration_histogram": calibration_histogram(gate.manifest),
            "drift": watching.drift.report().to_dict(),
            "keeps_rejects": watching.rejects is not None,
        }
    )


async def _metrics(_: Request) -> Response:
    metrics().settle()
    return Response(await to_thread.run_sync(exposition), media_type=CONTENT_TYPE)


async def _openapi(request: Request) -> Response:
    settings: Settings = request.app.state.settings
    return JsonResponse(openapi.document(runtime.__version__, secured=bool(settings.api_keys)))


async def _page(_: Request) -> Response:
    return FileResponse(PAGE / "index.html", headers=_PAGE_HEADERS)


async def _rejects_page(_: Request) -> Response:
    return FileResponse(PAGE / "rejects.html", headers=_PAGE_HEADERS)
