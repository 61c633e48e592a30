"""MLServer, as its documentation shows it: a custom runtime with a handler of its own; one inference worker a core.

BUNDLE=bundles/cifar10 python -m benchmarks.peers.mlserver_model --port 8000
"""

from __future__ import annotations

import argparse
import asyncio

import orjson
from fastapi import Request, Response
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.handlers import custom_handler

from benchmarks.peers.work import Work


class Model(MLModel):  # type: ignore[misc]  # mlserver is installed in an environment of its own
    """Decides on one image."""

    async def load(self) -> bool:
        self._work = Work()
        return True

    @custom_handler(rest_path="/classify")  # type: ignore[untyped-decorator]
    async def classify(self, request: Request) -> Response:
        data = await request.body()
        decision = await asyncio.to_thread(self._work.decide, data)
        return Response(orjson.dumps(decision), media_type="application/json")


async def serve(port: int) -> None:
    settings = Settings(
        host="127.0.0.1", http_port=port, grpc_port=port + 1, metrics_port=port + 2, parallel_workers=0, debug=False
    )
    server = MLServer(settings)
    await server.start([ModelSettings(name="gate", implementation=Model)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    asyncio.run(serve(parser.parse_args().port))
