"""The service with a clock in every stage, which GET /stages reads and sets back.

    OODGATE_BUNDLE=bundles/cifar10 python -m benchmarks.stages.server PORT

The application as a worker runs it, without BentoML around it.
"""

from __future__ import annotations

import sys
from functools import partial
from time import monotonic, perf_counter, thread_time
from typing import Any

import psutil
import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

import runtime.gate
import runtime.preprocess.decode
import serving.deciding.decider
import serving.http.routes.classify
from benchmarks.stages.clock import Clock
from runtime import native
from runtime.gate import Gate
from serving.deciding.decider import Decider
from serving.http.app import create_app, is_full
from serving.http.connections import BoundedProtocol
from serving.http.errors import JsonResponse
from serving.http.middleware import guarded
from serving.settings import Settings

clock = Clock()


def instrument() -> None:
    """Wrap what each stage is made of, where it is looked up."""
    clock.wrap(BoundedProtocol, "data_received", "HTTP: parse")
    clock.wrap(runtime.preprocess.decode, "fit", "resize")
    clock.wrap(runtime.gate, "preprocess", "decode")
    clock.wrap(serving.deciding.decider, "preprocess", "decode")
    clock.wrap(Gate, "run", "rule")
    clock.wrap(Gate, "decisions", "rule")
    clock.wrap(Decider, "_heard", "listeners, metrics")
    clock.wrap(serving.deciding.decider, "_measure", "listeners, metrics")
    clock.wrap(serving.http.routes.classify, "decision_json", "JSON")
    clock.wrap(JsonResponse, "render", "JSON")
    RequestResponseCycle.send = clock.timed_steps(RequestResponseCycle.send, "write")
    outcomes = Decider._outcomes

    async def timed(self: Decider, *args: Any, **options: Any) -> Any:
        jobs = await outcomes(self, *args, **options)
        now = monotonic()
        for job in jobs:
            clock.wait("queue: before the decoding", job.decoding - job.submitted)
            clock.wait("queue: before the engine", job.started - job.ready)
            clock.wait("hand-over to the event loop", now - job.finished)
        return jobs

    Decider._outcomes = timed


def main() -> None:
    settings = Settings.from_environment()
    native.settle()
    instrument()
    BoundedProtocol.install(settings)
    app = create_app(settings)
    before = {"clock": perf_counter(), "process": 0.0, "loop": 0.0}

    async def stages(_: Request) -> Response:
        if "engine" not in before:
            before["engine"] = 1.0
            clock.wrap(type(app.state.decider.gate.engine), "run", "engine")
        times = psutil.Process().cpu_times()
        now = {"clock": perf_counter(), "process": times.user + times.system, "loop": thread_time()}
        found = {name: now[name] - before[name] for name in now}
        before.update(now)
        waits = dict(clock.waits)
        clock.waits.clear()
        return JsonResponse({**found, "stages": clock.taken(), "waits": waits})

    app.router.routes.append(Route("/stages", stages))
    full = partial(is_full, app)
    uvicorn.run(guarded(app, settings, full), port=int(sys.argv[1]), log_level="error", server_header=False)


if __name__ == "__main__":
    main()
