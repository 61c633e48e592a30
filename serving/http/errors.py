"""Answers in JSON; errors are ``{"error": {"code": ..., "message": ...}}`` with a status, never a traceback."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from runtime.exceptions import (
    EmptyImage,
    EngineError,
    ImageError,
    ImageTooLarge,
    NotAnImage,
    UndecodableImage,
    UnsupportedImage,
)
from serving.exceptions import ClientGone, RejectNotFound, RequestError
from serving.metrics import metrics

logger = logging.getLogger("oodgate")

_IMAGE_STATUS: dict[type[ImageError], int] = {
    EmptyImage: 400,
    ImageTooLarge: 413,
    NotAnImage: 415,
    UnsupportedImage: 415,
    UndecodableImage: 422,
}

# Where the Open Inference Protocol is spoken.
_PROTOCOL = "/v2/"

# What proxies log for a client that went away; nobody receives it.
_CLIENT_GONE = 499


class JsonResponse(Response):
    """Content encoded once, by orjson."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


class Refusal:
    """An ASGI application that answers every request with one error, made beforehand."""

    def __init__(self, error: RequestError) -> None:
        document = _error_json(error.code, str(error))
        self._code, self._status = error.code, error.status
        self._response = _answer("/", document, error.status, error.headers)
        self._protocol_response = _answer(_PROTOCOL, document, error.status, error.headers)

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        metrics().error(self._code)
        response = self._protocol_response if scope["path"].startswith(_PROTOCOL) else self._response
        await send({"type": "http.response.start", "status": self._status, "headers": response.raw_headers})
        await send({"type": "http.response.body", "body": response.body})


def error_body(code: str, message: str) -> dict[str, Any]:
    """The JSON of an error, which is counted."""
    metrics().error(code)
    return _error_json(code, message)


def _error_json(code: str, message: str) -> dict[str, Any]:
    """The JSON of an error."""
    return {"error": {"code": code, "message": message.encode("utf-8", "replace").decode()}}


def image_error(error: ImageError) -> dict[str, Any]:
    """The JSON of one image's error."""
    return error_body(error.code, str(error))


def error_response(path: str, error: RequestError) -> Response:
    """The answer to a request for `path` that is refused."""
    return _answer(path, error_body(error.code, str(error)), error.status, error.headers)


def _answer(path: str, error: dict[str, Any], status: int, headers: Mapping[str, str] | None = None) -> Response:
    """An error, in the Open Inference Protocol's words where that is spoken."""
    if path.startswith(_PROTOCOL):
        return JsonResponse({"error": error["error"]["message"]}, status, headers)
    return JsonResponse(error, status, headers)


async def _on_image_error(_: Request, error: ImageError) -> Response:
    return JsonResponse(image_error(error), _IMAGE_STATUS[type(error)])


async def _on_request_error(request: Request, error: RequestError) -> Response:
    return error_response(request.scope["path"], error)


async def _on_http_exception(request: Request, error: HTTPException) -> Response:
    code, message = {
        404: ("not_found", f"there is no {request.url.path}; POST an image to /classify, or open / in a browser"),
        405: ("method_not_allowed", f"{request.url.path} does not take {request.method}"),
    }.get(error.status_code, ("bad_request", error.detail))
    return _answer(request.scope["path"], error_body(code, message), error.status_code, error.headers)


async def _on_engine_error(request: Request, error: EngineError) -> Response:
    logger.error("%s", error)
    answer = RequestError(503, "engine_failed", "the model could not answer; nothing was accepted")
    return error_response(request.scope["path"], answer)


async def _on_memory(request: Request, _: MemoryError) -> Response:
    logger.error("out of memory while decoding an image")
    answer = RequestError(503, "out_of_memory", "the service is short of memory; nothing was accepted")
    return error_response(request.scope["path"], answer)


async def _on_no_reject(_: Request, error: RejectNotFound) -> Response:
    return JsonResponse(_error_json("not_found", str(error)), 404)


async def _on_client_gone(_: Request, __: Exception) -> Response:
    return Response(status_code=_CLIENT_GONE)


async def _on_unexpected(request: Request, _: Exception) -> Response:
    error = RequestError(500, "internal_error", "an unexpected error; nothing was accepted")
    return error_response(request.scope["path"], error)


HANDLERS: dict[Any, Callable[[Request, Any], Awaitable[Response]]] = {
    ImageError: _on_image_error,
    RequestError: _on_request_error,
    HTTPException: _on_http_exception,
    EngineError: _on_engine_error,
    MemoryError: _on_memory,
    RejectNotFound: _on_no_reject,
    ClientDisconnect: _on_client_gone,
    ClientGone: _on_client_gone,
    Exception: _on_unexpected,
}
