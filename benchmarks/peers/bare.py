"""Bare Starlette and ONNX Runtime: decode, run the same graph, answer the same decision as JSON; nothing else.

    BUNDLE=bundles/cifar10 uvicorn benchmarks.peers.bare:app

THREADS=1 sends the work to Starlette's thread pool; by default it is done on the event loop, which is the fastest way
for a small model and stops every other request meanwhile.
"""

from __future__ import annotations

import os

import orjson
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.peers.work import Work

_work = Work()
_in_threads = os.environ.get("THREADS") == "1"


async def classify(request: Request) -> Response:
    """The image is the raw body."""
    data = await request.body()
    decision = await run_in_threadpool(_work.decide, data) if _in_threads else _work.decide(data)
    return Response(orjson.dumps(decision), media_type="application/json")


app = Starlette(routes=[Route("/classify", classify, methods=["POST"])])
