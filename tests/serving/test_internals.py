"""Every part of a library that the service leans on beyond its documents is still there, and as it was.

One test a part: a failure names the library that moved and what of it :mod:`serving.internals` needs.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from runtime.bundle import Bundle
from serving import internals
from serving.http.routes.process import SCHEMA

CALLBACKS = (
    "connection_made",
    "connection_lost",
    "data_received",
    "on_message_begin",
    "on_headers_complete",
    "on_message_complete",
)


class Protocol(internals.HttpProtocol):
    pass


def test_uvicorn_takes_its_protocol_from_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    import uvicorn.config

    monkeypatch.setattr(uvicorn.config, "HTTP_PROTOCOLS", {**uvicorn.config.HTTP_PROTOCOLS})
    internals.use_http_protocol(Protocol)
    config = uvicorn.Config(Starlette())
    config.load()
    assert config.http_protocol_class is Protocol, "uvicorn no longer looks 'auto' up in uvicorn.config.HTTP_PROTOCOLS"


def test_uvicorn_s_protocol_has_the_parts_that_are_extended() -> None:
    for name in CALLBACKS:
        found = getattr(internals.HttpProtocol, name, None)
        assert callable(found), f"uvicorn's HttpToolsProtocol has no {name}()"
        expected = {"connection_made": ["transport"], "connection_lost": ["exc"], "data_received": ["data"]}
        assert [*inspect.signature(found).parameters][1:] == expected.get(name, []), f"{name}() takes other arguments"
    config = uvicorn.Config(Starlette())
    config.load()

    async def made() -> internals.HttpProtocol:
        return internals.HttpProtocol(config=config, server_state=ServerState(), app_state={})

    protocol = asyncio.run(made())
    missing = [name for name in ("app", "connections", "cycle", "loop", "transport") if not hasattr(protocol, name)]
    assert not missing, f"uvicorn's HttpToolsProtocol has no {missing}"
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    source = inspect.getsource(RequestResponseCycle.__init__)
    missing = [name for name in ("response_started", "response_complete") if f"self.{name} = False" not in source]
    assert not missing, f"uvicorn's RequestResponseCycle has no {missing}"


def _printed(code: str, **variables: str) -> tuple[str, str]:
    """The last word that a process of its own printed, and its errors."""
    environment = {**os.environ, "BENTOML_DO_NOT_TRACK": "True", **variables}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    return (run.stdout.split() or [""])[-1], run.stderr


def test_bentoml_makes_the_tracer_provider() -> None:
    found, errors = _printed("from serving.internals import tracer_provider; print(type(tracer_provider()).__name__)")
    assert found == "TracerProvider", f"BentoML keeps its tracer provider elsewhere: {errors}"


def test_bentoml_s_monitor_writes_to_files_named_for_the_worker(tmp_path: Path) -> None:
    code = """
import bentoml
from serving.internals import number_worker
number_worker(7)
with bentoml.monitor("oodgate") as monitor:
    monitor.log("x", "request", "feature", "categorical")
"""
    _, errors = _printed(f"import os, sys; sys.path.insert(0, os.getcwd()); os.chdir({str(tmp_path)!r})\n{code}")
    found = sorted(path.name for path in tmp_path.rglob("*.log"))
    assert found == ["data.7.log", "schema.7.log"], f"BentoML names the files of monitoring otherwise: {errors}"


def test_bentoml_s_schema_of_the_service_is_ours(shared_bundle: Bundle, tmp_path: Path) -> None:
    """What its clients ask for is answered without it."""
    code = "import json; from serving.service import OodGate; print(json.dumps(OodGate.schema()).encode().hex())"
    found, errors = _printed(code, OODGATE_BUNDLE=str(shared_bundle.path), BENTOML_HOME=str(tmp_path))
    assert found, errors
    theirs = json.loads(bytes.fromhex(found))
    del theirs["paths"]
    assert theirs == SCHEMA


def test_bentoml_asks_a_service_of_our_class_for_the_application() -> None:
    """Both parameters are public, and all that stands before BentoML hangs on them."""
    parameters = "inspect.signature(bentoml.service).parameters, inspect.signature(bentoml.Service.to_asgi).parameters"
    found, errors = _printed(f"import bentoml, inspect; p, q = {parameters}; print('service_class' in p and [*q][1:])")
    assert found == "['is_main']", f"bentoml.service has no service_class, or Service.to_asgi has moved: {errors}"


async def _answer(_: Request) -> Response:
    return PlainTextResponse("")


def _template(path: str) -> str:
    """The template of the route that answered."""
    app = Starlette(routes=[Route("/things/{id}", _answer)])
    templates = []

    async def observed(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)
        templates.append(internals.route_template(scope))

    async def inside() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(observed), base_url="http://x") as client:
            await client.get(path)

    asyncio.run(inside())
    return templates[0]


@pytest.mark.parametrize(("path", "template"), [("/things/7", "/things/{id}"), ("/nothing", "unmatched")])
def test_starlette_leaves_the_route_in_the_scope(path: str, template: str) -> None:
    assert _template(path) == template, "Starlette's router no longer leaves `route` in the scope"


def test_prometheus_names_its_files_of_live_gauges_by_process(tmp_path: Path) -> None:
    code = """
import os
from prometheus_client import Counter, Gauge
Gauge("a", "", multiprocess_mode="livesum").set(1)
Gauge("b", "", multiprocess_mode="mostrecent").set(1)
Counter("c", "").inc()
print(os.getpid())
"""
    pid, _ = _printed(code, PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    found = [*internals.live_gauge_processes(tmp_path)]
    assert found == [pid], f"prometheus_client names its files otherwise: {sorted(tmp_path.iterdir())}"
