"""Bare Starlette and ONNX Runtime: decode, run the same graph, answer the same decision as JSON; nothing else.

    BUNDLE=bundles/cifar10 uvicorn benchmarks.peers.bare:app

THREADS=1 sends the work to Starlette's thread pool; by default it is done on the event loop, which is the fastest way
for a small model and stops every other request meanwhile.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from pathlib import Path

import numpy as np
import onnxruntime as ort
import orjson
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from runtime.bundle import MODEL, Bundle
from runtime.preprocess import preprocess

_bundle = Bundle.load(Path(os.environ["BUNDLE"]))
_manifest, _gate = _bundle.manifest, _bundle.manifest.gate
assert _gate is not None
_calibration = _gate.calibration.quantiles[_gate.score]  # every score, as there are few enough
_temperature = _manifest.confidence.temperature if _manifest.confidence else 1.0
_model = {"name": _manifest.model.name, "sha256": _manifest.files[MODEL].sha256}
_options = ort.SessionOptions()
_options.intra_op_num_threads = 1
_options.log_severity_level = 3
_session = ort.InferenceSession(_bundle.model, _options, providers=["CPUExecutionProvider"])
_in_threads = os.environ.get("THREADS") == "1"


def answer(data: bytes) -> bytes:
    """The decision on one image file."""
    images = preprocess(data, _manifest.input)[None]
    logits, scores, accept = _session.run(["logits", "scores", "accept"], {"images": images})
    exponentials = np.exp((logits[0] - logits.max()) / _temperature)
    top, values, accepted = (
        int(logits.argmax()),
        dict(zip(_manifest.scores, scores[0].tolist(), strict=True)),
        bool(accept),
    )
    value = values[_gate.score]
    decision = {
        "decision": "accept" if accepted else "reject",
        "is_ood": not accepted,
        "label": _manifest.labels[top] if accepted else None,
        "class_index": top,
        "confidence": float(exponentials[top] / exponentials.sum()),
        "score": {
            "name": _gate.score,
            "value": value,
            "threshold": _gate.threshold,
            "p_value": (1 + bisect_right(_calibration, value)) / (len(_calibration) + 1),
        },
        "scores": values,
        "model": _model,
    }
    return orjson.dumps(decision)


async def classify(request: Request) -> Response:
    """The image is the raw body."""
    data = await request.body()
    content = await run_in_threadpool(answer, data) if _in_threads else answer(data)
    return Response(content, media_type="application/json")


app = Starlette(routes=[Route("/classify", classify, methods=["POST"])])
