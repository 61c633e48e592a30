"""The routes of the Open Inference Protocol (:mod:`serving.http.open_inference`)."""

from __future__ import annotations

from time import perf_counter

import numpy as np
from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

import runtime
from runtime import Gate
from serving.caller import caller
from serving.deciding.decider import Decider
from serving.http import open_inference as protocol
from serving.http.body import read_body
from serving.http.errors import RequestError
from serving.json_response import JsonResponse
from serving.metrics import metrics
from serving.operating_point import asked_alpha
from serving.settings import Settings

# JSON spends up to four characters and some space on a byte; the rest is for the document around it.
_PER_BYTE, _DOCUMENT = 6, 64 * 1024


async def _live(_: Request) -> Response:
    return JsonResponse({"live": True})


async def _ready(request: Request) -> Response:
    ready = request.app.state.decider is not None
    return JsonResponse({"ready": ready}, 200 if ready else 503)


async def _server(_: Request) -> Response:
    return JsonResponse(protocol.server_metadata(runtime.__version__))


async def _model(request: Request) -> Response:
    return JsonResponse(protocol.model_metadata(_gate(request)))


async def _model_ready(request: Request) -> Response:
    return JsonResponse({"name": _gate(request).manifest.model.name, "ready": True})


async def _infer(request: Request) -> Response:
    decider: Decider = request.app.state.decider
    settings: Settings = request.app.state.settings
    with decider.using(asked_alpha(request)) as use:
        _check_name(request, use.gate)
        if "content-encoding" in request.headers:
            raise RequestError(415, "content_encoding", "send the body uncompressed")
        spec = use.gate.manifest.input
        shape = (spec.height, spec.width, 3)
        start = perf_counter()
        body = await read_body(request, settings.max_images * int(np.prod(shape)) * _PER_BYTE + _DOCUMENT)
        header_length = request.headers.get(protocol.HEADER_LENGTH)
        metrics().read(perf_counter() - start)
        try:
            asked = await to_thread.run_sync(protocol.read_request, body, header_length, shape, settings.max_images)
        except protocol.ProtocolError as error:
            raise RequestError(400, "bad_inference_request", str(error)) from error
        decisions = await decider.decide_array(asked.images, caller(request), use)
    content, json_length = protocol.write_response(asked, decisions, use.gate.manifest.model.name)
    if json_length is None:
        return Response(content, media_type="application/json")
    headers = {protocol.HEADER_LENGTH: str(json_length)}
    return Response(content, headers=headers, media_type="application/octet-stream")


def _gate(request: Request) -> Gate:
    """The gate, when the model of the request's path is its own."""
    gate: Gate = request.app.state.decider.gate
    _check_name(request, gate)
    return gate


def _check_name(request: Request, gate: Gate) -> None:
    asked = (request.path_params["name"], request.path_params.get("version", "1"))
    if asked != (gate.manifest.model.name, "1"):
        raise RequestError(404, "unknown_model", f"the model is {gate.manifest.model.name}, version 1")


ROUTES: list[BaseRoute] = [
    Route("/v2", _server),
    Route("/v2/health/live", _live),
    Route("/v2/health/ready", _ready),
    *(
        route
        for model in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")
        for route in (
            Route(model, _model),
            Route(f"{model}/ready", _model_ready),
            Route(f"{model}/infer", _infer, methods=["POST"]),
        )
    ),
]
