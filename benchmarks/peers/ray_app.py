"""Ray Serve, as its documentation shows it: a deployment that reads the request, one replica a core.

BUNDLE=bundles/cifar10 python -m benchmarks.peers.ray_app --port 8000
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

import ray
from ray import serve
from starlette.requests import Request

from benchmarks.peers.work import Work


@serve.deployment(  # type: ignore[untyped-decorator]  # ray is installed in an environment of its own
    num_replicas=len(os.sched_getaffinity(0)), ray_actor_options={"num_cpus": 0}, max_ongoing_requests=16
)
class Gate:
    """Decides on one image."""

    def __init__(self) -> None:
        self._work = Work()

    async def __call__(self, request: Request) -> dict[str, Any]:
        return self._work.decide(await request.body())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    ray.init(include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(Gate.bind(), route_prefix="/classify")
    while True:
        time.sleep(1)
