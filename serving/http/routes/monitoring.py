"""The routes of what is monitored: drift, and the rejected images that are kept."""

from __future__ import annotations

from dataclasses import asdict

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from serving.exceptions import RequestError
from serving.http.errors import JsonResponse
from serving.http.requests.query import read_query, whole
from serving.rejects.image_type import media_type_of
from serving.rejects.store import RejectStore

_PAGE = 50
_MOST = 500

# An image that a stranger sent is shown, and nothing more.
_IMAGE_HEADERS = {"content-security-policy": "default-src 'none'; sandbox", "cache-control": "private, max-age=3600"}


async def _drift(request: Request) -> Response:
    return JsonResponse(request.app.state.deployment.listeners.drift.report().to_dict())


async def _list(request: Request) -> Response:
    store, query = _store(request), read_query(request, "limit", "after")
    limit = whole("limit", query.get("limit", str(_PAGE)), _MOST)
    page = await to_thread.run_sync(lambda: store.page(limit, query.get("after")))
    return JsonResponse({"rejects": [asdict(reject) for reject in page.rejects], "next": page.next})


async def _image(request: Request) -> Response:
    store, id_ = _store(request), request.path_params["id"]
    data = await to_thread.run_sync(lambda: store.image(store.get(id_)))
    return Response(data, media_type=media_type_of(data), headers=_IMAGE_HEADERS)


async def _delete(request: Request) -> Response:
    store = _store(request)
    await to_thread.run_sync(store.delete, request.path_params["id"])
    return Response(status_code=204)


def _store(request: Request) -> RejectStore:
    store: RejectStore | None = request.app.state.deployment.listeners.rejects
    if store is None:
        raise RequestError(404, "not_found", "rejected images are not kept; OODGATE_REJECTS says where to")
    return store


ROUTES: list[BaseRoute] = [
    Route("/drift", _drift),
    Route("/rejects", _list),
    Route("/rejects/{id}", _delete, methods=["DELETE"]),
    Route("/rejects/{id}/image", _image),
]
