"""Ids, keys, logs, headers, limits and metrics, around an application in this process."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

import httpx
import numpy as np
import pytest
from openapi_spec_validator import validate
from prometheus_client import REGISTRY
from starlette.applications import Starlette
from starlette.routing import Mount

from runtime import Decision
from runtime.bundle import Bundle
from serving.deciding.served import Decided
from serving.http.middleware import HEALTH
from tests.serving.inside import application
from tests.small import LABELS, calibration_images, encode

PNG = encode(calibration_images(1)[0])
DIGEST = hashlib.sha256(b"secret").hexdigest()

Body = Callable[[httpx.AsyncClient, Starlette], Awaitable[None]]


def run(bundle: Bundle, body: Body, **settings: Any) -> None:
    async def main() -> None:
        async with application(bundle, **settings) as (client, app):
            await body(client, app)

    asyncio.run(main())


def hold_up(app: Starlette) -> Callable[[], None]:
    """The engine answers nothing until the returned function is called."""
    import threading

    gate = app.state.decider.gate
    go, run = threading.Event(), gate.engine.run

    def slow(*args: Any, **kwargs: Any) -> Any:
        assert go.wait(10)
        return run(*args, **kwargs)

    gate.engine.run = slow
    return go.set


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_a_request_keeps_its_id_or_gets_one(shared_bundle: Bundle) -> None:
    async def body(client: httpx.AsyncClient, _: Starlette) -> None:
        answer = await client.post("/classify", content=PNG, headers={"x-request-id": "mine-1"})
        assert answer.headers["x-request-id"] == "mine-1"
        for hostile in ("a b", "x" * 129, 'a"b', ""):
            answer = await client.get("/nothing", headers={"x-request-id": hostile})
            assert len(bytes.fromhex(answer.headers["x-request-id"])) == 16

    run(shared_bundle, body)


def test_every_answer_has_the_security_headers(shared_bundle: Bundle) -> None:
    async def body(client: httpx.AsyncClient, _: Starlette) -> None:
        for path in ("/", "/page/page.js", "/model", "/nothing", "/v2"):
            headers = (await client.get(path)).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert headers.get_list("content-security-policy") == [headers["content-security-policy"]]
            assert "server" not in headers
            assert "access-control-allow-origin" not in headers

    run(shared_bundle, body)


def test_keys_are_asked_for_everywhere_but_health(shared_bundle: Bundle) -> None:
    async def body(client: httpx.AsyncClient, app: Starlette) -> None:
        paths = {getattr(route, "path", "") for route in app.routes} | {"/nothing"}
        for path in paths - HEALTH:
            for headers in ({}, {"x-api-key": "wrong"}, {"authorization": "Bearer wrong"}):
                answer = await client.post(path, content=PNG, headers=headers)
                assert answer.status_code == 401
                assert path.startswith("/v2/") or answer.json()["error"]["code"] == "unauthorized"
                assert answer.headers["www-authenticate"] == 'Basic realm="oodgate"'
        for path in paths & HEALTH:
            assert (await client.get(path)).status_code == 200
        answer = await client.post("/classify", content=PNG, headers={"authorization": "Bearer secret"})
        assert answer.status_code == 200
        assert (await client.get("/", auth=("anybody", "secret"))).status_code == 200

    run(shared_bundle, body, api_keys=(DIGEST,))


def test_cors_is_for_the_origins_named(shared_bundle: Bundle) -> None:
    async def body(client: httpx.AsyncClient, _: Starlette) -> None:
        for origin, allowed in (("https://good.example", True), ("https://evil.example", False)):
            answer = await client.get("/model", headers={"origin": origin})
            assert (answer.headers.get("access-control-allow-origin") == origin) is allowed
        preflight = {"origin": "https://good.example", "access-control-request-method": "POST"}
        assert (await client.options("/classify", headers=preflight)).status_code == 200
        for method, wanted in (("POST", "content-type, inference-header-content-length"), ("DELETE", "x-api-key")):
            asked = {"access-control-request-method": method, "access-control-request-headers": wanted}
            assert (await client.options("/rejects/1", headers={**preflight, **asked})).status_code == 200
        exposed = (await client.get("/model", headers=preflight)).headers["access-control-expose-headers"]
        assert "inference-header-content-length" in exposed

    run(shared_bundle, body, cors_origins=("https://good.example",), api_keys=(DIGEST,))


def test_one_line_of_json_a_request(shared_bundle: Bundle, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    async def body(client: httpx.AsyncClient, _: Starlette) -> None:
        await client.post("/classify?alpha=0.0500", content=PNG, headers={"x-request-id": "a", "x-api-key": "secret"})
        await client.get("/page/%0Ax", headers={"x-request-id": "b", "x-api-key": "secret"})

    run(shared_bundle, body, access_log=True, api_keys=(DIGEST,))
    output = capfdbinary.readouterr().out
    lines = [json.loads(line) for line in output.splitlines()]
    assert [line["request_id"] for line in lines] == ["a", "b"]
    assert lines[0]["route"] == "/classify"
    assert lines[0]["status"] == 200
    assert lines[0]["bytes"] == len(PNG)
    assert 0 < lines[0]["seconds"] < 10
    assert b"0.0500" not in output
    assert b"secret" not in output


def test_requests_beyond_the_limit_get_429_at_once(shared_bundle: Bundle) -> None:
    async def body(client: httpx.AsyncClient, app: Starlette) -> None:
        release = hold_up(app)
        first = [asyncio.ensure_future(client.post("/classify", content=PNG)) for _ in range(2)]
        await asyncio.sleep(0.1)
        refused = await client.post("/classify", content=PNG)
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "too_many_requests"
        assert refused.headers["retry-after"] == "1"
        refused = await client.post("/v2/models/small/infer", json={})
        assert refused.status_code == 429
        assert refused.json()["error"].startswith("too many requests")
        assert (await client.get("/v2/health/ready")).status_code == 200
        assert (await client.get("/metrics")).status_code == 200
        release()
        assert [answer.status_code for answer in await asyncio.gather(*first)] == [200, 200]
        assert (await client.post("/classify", content=PNG)).status_code == 200

    run(shared_bundle, body, max_concurrency=2)


def test_a_crowd_that_asks_again_at_once_is_kept_waiting(shared_bundle: Bundle) -> None:
    async def body(client: httpx.AsyncClient, app: Starlette) -> None:
        release = hold_up(app)
        first = asyncio.ensure_future(client.post("/classify", content=PNG))
        await asyncio.sleep(0.1)
        start = monotonic()
        answers = await asyncio.gather(*(client.post("/classify", content=PNG) for _ in range(100)))
        at_once = monotonic() - start
        answers.append(await client.post("/classify", content=PNG))
        assert monotonic() - start - at_once > 0.4 > at_once / 2
        assert {answer.status_code for answer in answers} == {429}
        release()
        assert (await first).status_code == 200

    run(shared_bundle, body, max_concurrency=1)


def test_a_full_queue_answers_503_at_once(shared_bundle: Bundle) -> None:
    async def body(client: httpx.AsyncClient, app: Starlette) -> None:
        release = hold_up(app)
        first = [asyncio.ensure_future(client.post("/classify", content=PNG)) for _ in range(3)]
        while not app.state.decider.room.is_full(False):
            await asyncio.sleep(0.01)
        refused = await client.post("/classify", content=PNG)
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "overloaded"
        assert refused.headers["retry-after"] == "1"
        release()
        assert [answer.status_code for answer in await asyncio.gather(*first)] == [200] * 3

    run(shared_bundle, body, max_queue=3, engine_calls=1)


def test_a_crowd_finds_half_the_room(shared_bundle: Bundle) -> None:
    async def body(client: httpx.AsyncClient, app: Starlette) -> None:
        release = hold_up(app)
        full = [asyncio.ensure_future(client.post("/classify", content=PNG)) for _ in range(4)]
        while not app.state.decider.room.is_full(False):
            await asyncio.sleep(0.01)
        refused = await asyncio.gather(*(client.post("/classify", content=PNG) for _ in range(101)))
        assert {answer.status_code for answer in refused} == {503}
        release()
        assert [answer.status_code for answer in await asyncio.gather(*full)] == [200] * 4
        release = hold_up(app)
        half = [asyncio.ensure_future(client.post("/classify", content=PNG)) for _ in range(3)]
        await asyncio.wait(half, timeout=0.2)
        release()
        assert sorted(answer.status_code for answer in await asyncio.gather(*half)) == [200, 200, 503]

    run(shared_bundle, body, max_queue=4, engine_calls=1)


def test_a_late_image_is_dropped_before_inference(shared_bundle: Bundle) -> None:
    async def body(client: httpx.AsyncClient, app: Starlette) -> None:
        before = sample("oodgate_dropped_total", reason="late")
        release = hold_up(app)
        first = asyncio.ensure_future(client.post("/classify", content=PNG))
        await asyncio.sleep(0.1)
        second = asyncio.ensure_future(client.post("/classify", content=PNG))
        await asyncio.sleep(1.1)
        release()
        assert (await first).status_code == 200  # the engine had it in time
        answer = await second
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "deadline_exceeded"
        assert sample("oodgate_dropped_total", reason="late") == before + 1

    run(shared_bundle, body, timeout=1, engine_calls=1)


def test_a_client_that_has_gone_is_not_worked_for(shared_bundle: Bundle) -> None:
    async def body(client: httpx.AsyncClient, app: Starlette) -> None:
        before = sample("oodgate_dropped_total", reason="abandoned")
        release = hold_up(app)
        first = asyncio.ensure_future(client.post("/classify", content=PNG))
        await asyncio.sleep(0.1)
        messages = iter([{"type": "http.request", "body": PNG}, {"type": "http.disconnect"}])
        answers: list[Any] = []

        async def receive() -> Any:
            return next(messages)

        async def send(message: Any) -> None:
            answers.append(message)

        scope = {"type": "http", "method": "POST", "path": "/classify", "query_string": b"", "headers": []}
        await app(scope, receive, send)
        assert answers[0]["status"] == 499
        release()
        assert (await first).status_code == 200
        await asyncio.sleep(0.1)
        assert sample("oodgate_dropped_total", reason="abandoned") == before + 1

    run(shared_bundle, body, engine_calls=1)


def test_every_decision_is_heard_of_once(shared_bundle: Bundle) -> None:
    async def body(client: httpx.AsyncClient, app: Starlette) -> None:
        heard: list[Decided] = []

        def broken(_: Decided) -> None:
            raise RuntimeError("a listener's fault")

        app.state.decider.served.listeners = [broken, heard.append]
        headers = {"x-request-id": "one"}
        answer = await client.post("/classify", content=PNG, headers=headers)
        assert [(d.decision.to_dict(), d.image, d.request_id) for d in heard] == [(answer.json(), PNG, "one")]
        heard.clear()
        await client.post("/classify_batch", files=[("images", PNG), ("images", b"bad"), ("images", PNG)])
        assert len(heard) == 2
        heard.clear()
        pixels = calibration_images(3)
        document = {"name": "images", "datatype": "UINT8", "shape": list(pixels.shape), "data": pixels.tolist()}
        await client.post("/v2/models/small/infer", json={"inputs": [document]})
        np.testing.assert_array_equal([d.image for d in heard], pixels)

    run(shared_bundle, body)


def test_decisions_are_counted_by_verdict_and_class(shared_bundle: Bundle) -> None:
    async def body(client: httpx.AsyncClient, app: Starlette) -> None:
        pixels = calibration_images(8)
        decisions = app.state.decider.gate.decide(pixels)
        assert isinstance(decisions[0], Decision)

        def counts() -> dict[tuple[str, str], float]:
            return {
                (verdict, label): sample("oodgate_decisions_total", decision=verdict, label=label)
                for verdict in ("accept", "reject")
                for label in LABELS
            }

        before = counts()
        await client.post("/classify_batch", files=[("images", encode(image)) for image in pixels])
        grown = {key: value - before[key] for key, value in counts().items()}
        for verdict, label in grown:
            expected = sum((d.decision, LABELS[d.class_index]) == (verdict, label) for d in decisions)
            assert grown[verdict, label] == expected

    run(shared_bundle, body)


def test_paths_that_are_none_make_no_series(shared_bundle: Bundle) -> None:
    async def body(client: httpx.AsyncClient, _: Starlette) -> None:
        await client.get("/warm/up")
        await client.get("/page/warm/up")
        await client.get("/v2/models/warm")
        before = (await client.get("/metrics")).text.count("\n")
        for i in range(50):
            await client.get(f"/random/{i}")
            await client.get(f"/page/{i}")
            await client.get(f"/v2/models/{i}")
            await client.request(f"M{i}", "/random")
        assert (await client.get("/metrics")).text.count("\n") == before

    run(shared_bundle, body)


def test_the_openapi_document_is_valid_and_has_every_route(shared_bundle: Bundle) -> None:
    async def body(client: httpx.AsyncClient, app: Starlette) -> None:
        document = (await client.get("/openapi.json")).json()
        validate(document)
        routes = {
            f"{route.path}/{{file}}" if isinstance(route, Mount) else getattr(route, "path", "") for route in app.routes
        }
        assert set(document["paths"]) == routes
        for path, item in document["paths"].items():
            for method in item.keys() - {"parameters"}:
                assert method.upper() in _methods(app, path)

    run(shared_bundle, body)


def _methods(app: Starlette, path: str) -> set[str]:
    routes = [route for route in app.routes if getattr(route, "path", "") == path]
    methods = {method for route in routes for method in getattr(route, "methods", None) or ()}
    return methods if routes else {"GET"}  # static files


def test_an_announced_length_of_any_size_is_refused(shared_bundle: Bundle) -> None:
    async def body(client: httpx.AsyncClient, _: Starlette) -> None:
        for path in ("/classify", "/classify_batch", "/v2/models/small/infer"):
            for length in ("9" * 18, "9" * 5000):
                headers = {"content-length": length, "content-type": "multipart/form-data; boundary=b"}
                assert (await client.post(path, content=b"x", headers=headers)).status_code == 413

    run(shared_bundle, body, access_log=True)


def test_an_npy_batch_is_decided_like_its_images(shared_bundle: Bundle) -> None:
    import io

    async def body(client: httpx.AsyncClient, app: Starlette) -> None:
        pixels, buffer = calibration_images(8), io.BytesIO()
        np.save(buffer, pixels)
        kind = {"content-type": "application/x-npy"}
        answer = await client.post("/classify_batch", content=buffer.getvalue(), headers=kind)
        expected = [decision.to_dict() for decision in app.state.decider.gate.decide(pixels)]
        assert answer.json() == {"results": expected}
        refused = await client.post("/classify_batch", content=b"no array", headers=kind)
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "unusable_array")
        large = await client.post("/classify_batch", content=bytes(8 * 768 + 5000), headers=kind)
        assert (large.status_code, large.json()["error"]["code"]) == (413, "body_too_large")

    run(shared_bundle, body)


@pytest.mark.parametrize("path", ["/classify", "/classify_batch", "/v2/models/small/infer"])
def test_a_compressed_body_is_told_so(shared_bundle: Bundle, path: str) -> None:
    import gzip

    async def body(client: httpx.AsyncClient, _: Starlette) -> None:
        for headers in ({"content-encoding": "gzip"}, {"content-encoding": "br"}, {}):
            if path == "/classify" or headers:
                answer = await client.post(path, content=gzip.compress(PNG), headers=headers)
                assert answer.status_code == 415
                assert "compressed" in answer.text
        kept = await client.post("/classify", content=PNG, headers={"content-encoding": "identity"})
        assert kept.status_code == 200

    run(shared_bundle, body)
