"""LitServe, as its documentation shows it: a LitAPI, one worker a core, the image in base64.

BUNDLE=bundles/cifar10 python -m benchmarks.peers.litserve_api --port 8000
"""

import argparse
import base64
import os
from typing import Any

import litserve  # looks at annotations as they are: no `from __future__ import annotations` here

from benchmarks.peers.work import Work


class Api(litserve.LitAPI):  # type: ignore[misc]  # litserve is installed in an environment of its own
    """Decides on one image."""

    def setup(self, _: str) -> None:
        self._work = Work()

    def decode_request(self, request: dict[str, Any]) -> bytes:
        return base64.b64decode(request["instances"][0]["image"]["b64"])

    def predict(self, data: bytes) -> dict[str, Any]:
        return self._work.decide(data)

    def encode_response(self, decision: dict[str, Any]) -> dict[str, Any]:
        return decision


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    cores = len(os.sched_getaffinity(0))
    server = litserve.LitServer(Api(api_path="/classify"), accelerator="cpu", workers_per_device=cores)
    server.run(port=parser.parse_args().port, host="127.0.0.1", generate_client_file=False, log_level="error")
