"""Bare Starlette and ONNX Runtime: decode and run the same graph, answer its numbers as JSON; nothing else.

    BUNDLE=bundles/cifar10 uvicorn benchmarks.peers.bare:app

THREADS=1 sends the work to Starlette's thread pool; by default it is done on the event loop, which is the fastest way
for a small model and stops every other request meanwhile.
"""

from __future__ import annotations

import os
from pathlib import Path

import onnxruntime as ort
import orjson
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from runtime.bundle import Bundle
from runtime.preprocess import preprocess

_bundle = Bundle.load(Path(os.environ["BUNDLE"]))
_options = ort.SessionOptions()
_options.intra_op_num_threads = 1
_options.log_severity_level = 3
_session = ort.InferenceSession(_bundle.model, _options, providers=["CPUExecutionProvider"])
_in_threads = os.environ.get("THREADS") == "1"


def answer(data: bytes) -> bytes:
    """Logits, scores and verdict of one image file."""
    images = preprocess(data, _bundle.manifest.input)[None]
    logits, scores, accept = _session.run(["logits", "scores", "accept"], {"images": images})
    return orjson.dumps({"class": int(logits.argmax()), "scores": scores[0].tolist(), "accept": bool(accept[0])})


async def classify(request: Request) -> Response:
    """The image is the raw body."""
    data = await request.body()
    content = await run_in_threadpool(answer, data) if _in_threads else answer(data)
    return Response(content, media_type="application/json")


app = Starlette(routes=[Route("/classify", classify, methods=["POST"])])
