"""The routes that decide: one image, or several."""

from __future__ import annotations

from time import perf_counter

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from runtime import Decision, ImageError
from serving.deciding.decider import Decider
from serving.http.errors import JsonResponse, image_error
from serving.http.requests.body import caller, holding, read_image, read_images
from serving.http.requests.client import client_of
from serving.http.requests.query import asked_alpha, asked_set, asked_top, decision_json, read_query
from serving.metrics import metrics
from serving.settings import Settings


async def _classify(request: Request) -> Response:
    decider: Decider = request.app.state.decider
    settings: Settings = request.app.state.settings
    query = read_query(request, "alpha", "top", "set")
    top = asked_top(query)
    with decider.using(asked_alpha(query)) as use, holding(request, bulk=False) as hold:
        coverage = asked_set(query, use)
        start = perf_counter()
        image = await read_image(request, settings.max_bytes, hold)
        metrics().stage("read", perf_counter() - start)
        decision = await decider.decide(image, caller(request), use)
    return JsonResponse(decision_json(decision, use.gate.manifest.labels, top, coverage))


async def _classify_batch(request: Request) -> Response:
    decider: Decider = request.app.state.decider
    settings: Settings = request.app.state.settings
    results: list[Decision | ImageError]
    query = read_query(request, "alpha", "top", "set")
    top = asked_top(query)
    with decider.using(asked_alpha(query)) as use, holding(request, bulk=True) as hold:
        coverage = asked_set(query, use)
        decider.room.check(True, client_of(request.scope))
        spec = use.gate.manifest.input
        start = perf_counter()
        images = await read_images(request, (spec.height, spec.width, 3), settings.max_images, settings.max_body, hold)
        metrics().stage("read", perf_counter() - start)
        if isinstance(images, list):
            results = await decider.decide_each(images, caller(request), use)
        else:
            results = [*await decider.decide_array(images, caller(request), use)]
    labels = use.gate.manifest.labels
    return JsonResponse(
        {
            "results": [
                decision_json(result, labels, top, coverage) if isinstance(result, Decision) else image_error(result)
                for result in results
            ]
        }
    )


ROUTES: list[BaseRoute] = [
    Route("/classify", _classify, methods=["POST"]),
    Route("/classify_batch", _classify_batch, methods=["POST"]),
]
