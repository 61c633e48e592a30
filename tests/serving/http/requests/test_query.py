"""What a request may ask in its query: `?alpha=`, an operating point of those that the bundle has, and `?top=`."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.applications import Starlette

from runtime import Gate
from runtime.bundle import Bundle
from tests.serving.decisions import assert_same
from tests.serving.inside import application
from tests.small import LABELS, calibration_images, encode

PIXELS = calibration_images(60, seed=3)
IMAGES = [encode(image) for image in PIXELS]
ALPHAS = (0.01, 0.05, 0.1)
INFER = {"inputs": [{"name": "images", "datatype": "UINT8", "shape": [8, 16, 16, 3], "data": PIXELS[:8].tolist()}]}


def run(bundle: Bundle, body: Callable[[httpx.AsyncClient], Awaitable[None]], **settings: Any) -> None:
    async def inside() -> None:
        async with application(bundle, **settings) as (client, _):
            await body(client)

    asyncio.run(inside())


def test_every_stored_point_decides_by_its_own_threshold(shared_bundle: Bundle) -> None:
    gate = Gate.load(shared_bundle.path, threads=1)
    npy = io.BytesIO()
    np.save(npy, PIXELS[:8])

    async def body(client: httpx.AsyncClient) -> None:
        for alpha in ALPHAS:
            expected = [decision.to_dict() for decision in gate.decide(PIXELS, alpha=alpha)]
            query = f"?alpha={alpha}"
            answers = await asyncio.gather(*(client.post(f"/classify{query}", content=image) for image in IMAGES))
            for answer, decision in zip(answers, expected, strict=True):
                assert_same(answer.json(), decision)
            files = [("images", image) for image in IMAGES[:8]]
            kind = {"content-type": "application/x-npy"}
            for answer in (
                await client.post(f"/classify_batch{query}", files=files),
                await client.post(f"/classify_batch{query}", content=npy.getvalue(), headers=kind),
            ):
                for found, decision in zip(answer.json()["results"], expected, strict=False):
                    assert_same(found, decision)
            answer = await client.post(f"/v2/models/small/infer{query}", json=INFER)
            assert answer.json()["outputs"][0]["data"] == [not decision["is_ood"] for decision in expected[:8]]
            assert answer.json()["parameters"] == {"sha256": expected[0]["model"]["sha256"]}

    run(shared_bundle, body)
    rejected = {alpha: sum(decision.is_ood for decision in gate.decide(PIXELS, alpha=alpha)) for alpha in ALPHAS}
    assert rejected[0.01] < rejected[0.1]


def test_requests_at_once_keep_their_points(shared_bundle: Bundle) -> None:
    gate = Gate.load(shared_bundle.path, threads=1)
    expected = {alpha: gate.decide(PIXELS, alpha=alpha) for alpha in ALPHAS}

    async def body(client: httpx.AsyncClient) -> None:
        asked = [(i, ALPHAS[i % 3]) for i in range(len(IMAGES))]
        answers = await asyncio.gather(*(client.post(f"/classify?alpha={a}", content=IMAGES[i]) for i, a in asked))
        for answer, (i, alpha) in zip(answers, asked, strict=True):
            assert_same(answer.json(), expected[alpha][i].to_dict())

    run(shared_bundle, body)


def test_points_share_a_batch(shared_bundle: Bundle) -> None:
    """While the engine is held up by one image, requests with each alpha and with none come, and are decided in one go."""
    gate = Gate.load(shared_bundle.path, threads=1)
    asked = [(i, (*ALPHAS, None)[i % 4]) for i in range(1, 13)]
    sizes: list[int] = []
    go = threading.Event()

    async def held(client: httpx.AsyncClient, app: Starlette) -> None:
        decider = app.state.decider
        engine = decider.gate.engine.run

        def slow(images: Any, **options: Any) -> Any:
            sizes.append(len(images))
            assert go.wait(10)
            return engine(images, **options)

        decider.gate.engine.run = slow
        first = asyncio.ensure_future(client.post("/classify", content=IMAGES[0]))
        while not sizes:
            await asyncio.sleep(0.01)
        queries = [{} if alpha is None else {"alpha": alpha} for _, alpha in asked]
        requests = [
            asyncio.ensure_future(client.post("/classify", params=query, content=IMAGES[i]))
            for query, (i, _) in zip(queries, asked, strict=True)
        ]
        while len(decider._pipeline._ready) < len(asked):
            await asyncio.sleep(0.01)
        go.set()
        assert_same((await first).json(), gate.decide(IMAGES[:1])[0].to_dict())
        for request, (i, alpha) in zip(requests, asked, strict=True):
            assert_same((await request).json(), gate.decide([IMAGES[i]], alpha=alpha)[0].to_dict())

    async def inside() -> None:
        async with application(shared_bundle, engine_calls=1) as (client, app):
            await held(client, app)

    asyncio.run(inside())
    assert sizes == [1, len(asked)]


@pytest.mark.parametrize("alpha", ["0.02", "0", "nan", "inf", "-0.1", "much", "", "0.1x"])
@pytest.mark.parametrize("route", ["/classify", "/classify_batch", "/v2/models/small/infer"])
def test_any_other_is_refused_with_those_stored(shared_bundle: Bundle, route: str, alpha: str) -> None:
    async def body(client: httpx.AsyncClient) -> None:
        answer = await client.post(route, params={"alpha": alpha}, content=IMAGES[0])
        assert answer.status_code == 400
        message = "alpha must be one of those stored: 0.01, 0.05, 0.1"
        error = answer.json()["error"]
        assert error == (message if route.startswith("/v2/") else {"code": "unknown_alpha", "message": message})

    run(shared_bundle, body)


def test_drift_is_watched_at_the_default_point(shared_bundle: Bundle) -> None:
    standard = Gate.load(shared_bundle.path, threads=1).decide(PIXELS)

    async def body(client: httpx.AsyncClient) -> None:
        await asyncio.gather(*(client.post("/classify?alpha=0.01", content=image) for image in IMAGES))
        for _ in range(100):
            report = (await client.get("/drift")).json()
            if report["images"] == len(IMAGES):
                break
            await asyncio.sleep(0.05)
        assert report["rejected"] == sum(decision.is_ood for decision in standard)
        assert report["alpha"] == 0.1

    run(shared_bundle, body)


def test_the_most_probable_classes_come_first_and_the_rest_stays_as_it_was(shared_bundle: Bundle) -> None:
    gate = Gate.load(shared_bundle.path, threads=1)
    logits = gate.engine.run(PIXELS[:6]).logits.astype(np.float64)
    temperature = shared_bundle.manifest.confidence.temperature if shared_bundle.manifest.confidence else 1.0
    expected = np.exp(logits / temperature) / np.exp(logits / temperature).sum(axis=1, keepdims=True)

    async def body() -> None:
        async with application(shared_bundle) as (client, _):
            single = [(await client.post("/classify?top=2", content=image)).json() for image in IMAGES[:6]]
            files = [("images", image) for image in IMAGES[:6]]
            batch = (await client.post("/classify_batch?top=2", files=files)).json()["results"]
            for found, other, probabilities, decision in zip(
                single, batch, expected, gate.decide(PIXELS[:6]), strict=True
            ):
                top = found.pop("top")
                assert [row["class_index"] for row in top] == np.argsort(-probabilities)[:2].tolist()
                assert [row["label"] for row in top] == [LABELS[row["class_index"]] for row in top]
                np.testing.assert_allclose(
                    [row["probability"] for row in top], np.sort(probabilities)[:-3:-1], rtol=1e-4
                )
                assert top[0]["class_index"] == found["class_index"]
                assert [row["label"] for row in other.pop("top")] == [row["label"] for row in top]
                assert_same(found, decision.to_dict())
                assert_same(other, decision.to_dict())
            assert len((await client.post("/classify?top=100", content=IMAGES[0])).json()["top"]) == len(LABELS)

    asyncio.run(body())


@pytest.mark.parametrize("top", ["", "0", "101", "-1", "1.5", "x", "\u0663", "9" * 50])
def test_anything_else_is_refused(shared_bundle: Bundle, top: str) -> None:
    async def body() -> None:
        async with application(shared_bundle) as (client, _):
            for path in ("/classify", "/classify_batch"):
                answer: httpx.Response = await client.post(path, params={"top": top}, content=IMAGES[0])
                assert answer.status_code == 400
                assert answer.json()["error"]["code"] == "bad_request"

    asyncio.run(body())


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("aplha=0.01", "'aplha'"),
        ("alpha=0.01&topp=3", "'alpha', 'topp'"),
        ("alpha=0.01&alpha=0.01", "'alpha', 'alpha'"),
        ("Alpha=0.01", "'Alpha'"),
        ("%C3%A4=", "'\\xe4'"),
    ],
)
@pytest.mark.parametrize(
    ("route", "known"),
    [
        ("/classify", "alpha, top, set"),
        ("/classify_batch", "alpha, top, set"),
        ("/v2/models/small/infer", "alpha"),
        ("/rejects", "limit, after"),
    ],
)
def test_a_query_that_is_not_understood_is_refused(
    shared_bundle: Bundle, tmp_path: Path, route: str, known: str, query: str, found: str
) -> None:
    async def body(client: httpx.AsyncClient) -> None:
        method = "GET" if route == "/rejects" else "POST"
        answer = await client.request(method, f"{route}?{query}")
        assert answer.status_code == 400
        message = f"the query takes {known}, each once; found {found}"
        error = answer.json()["error"]
        assert error == (message if route.startswith("/v2/") else {"code": "bad_request", "message": message})

    run(shared_bundle, body, rejects=str(tmp_path))


def test_options_elsewhere_than_in_the_query_are_refused(shared_bundle: Bundle) -> None:
    async def body(client: httpx.AsyncClient) -> None:
        for route, field in (("/classify", "image"), ("/classify_batch", "images")):
            answer = await client.post(route, files={field: IMAGES[0]}, data={"alpha": "0.01"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_request")
            assert "found other fields: 'alpha'" in answer.json()["error"]["message"]
        answer = await client.post("/v2/models/small/infer", json={**INFER, "parameters": {"alpha": 0.01}})
        assert answer.status_code == 400
        assert answer.json() == {"error": "parameters: alpha is asked for in the query, as ?alpha=0.01"}

    run(shared_bundle, body)


# --- label sets, and why an image is rejected


def test_the_label_set_of_every_coverage_at_every_point(selective_bundle: Bundle) -> None:
    gate = Gate.load(selective_bundle.path, engine="onnxruntime-cpu", threads=1)

    async def body(client: httpx.AsyncClient) -> None:
        for alpha in ALPHAS:
            decisions = gate.decide(PIXELS, alpha=alpha)
            for coverage in (0.8, 0.95):
                query = {"alpha": alpha, "set": coverage}
                batch = await client.post(
                    "/classify_batch", params=query, files=[("images", one) for one in IMAGES[:8]]
                )
                answers = [(await client.post("/classify", params=query, content=image)).json() for image in IMAGES]
                assert [one["set"] for one in batch.json()["results"]] == [one["set"] for one in answers[:8]]
                least = next(one.threshold for one in gate.spec.at(alpha).sets if one.coverage == coverage)
                for answer, decision in zip(answers, decisions, strict=True):
                    if decision.is_ood:
                        assert answer["set"] is None
                        continue
                    found = {one["label"]: one["probability"] for one in answer["set"]["labels"]}
                    assert decision.probabilities is not None
                    expected = {LABELS[k] for k, p in enumerate(decision.probabilities) if p >= least}
                    assert set(found) == expected | {LABELS[decision.class_index]}
                    assert list(found.values()) == sorted(found.values(), reverse=True)
                    assert answer["set"]["coverage"] == coverage

    run(selective_bundle, body)


@pytest.mark.parametrize("asked", ["0.9", "95", "nan", "", "all"])
@pytest.mark.parametrize("route", ["/classify", "/classify_batch"])
def test_any_other_coverage_is_refused_with_those_stored(selective_bundle: Bundle, route: str, asked: str) -> None:
    async def body(client: httpx.AsyncClient) -> None:
        answer = await client.post(route, params={"set": asked}, content=IMAGES[0])
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unknown_set")
        assert answer.json()["error"]["message"] == "set must be one of the coverages that are stored: 0.8, 0.95"

    run(selective_bundle, body)


def test_a_bundle_without_label_sets_says_how_to_make_them(shared_bundle: Bundle) -> None:
    async def body(client: httpx.AsyncClient) -> None:
        answer = await client.post("/classify?set=0.95", content=IMAGES[0])
        assert "none; python -m export.calibrate --prediction-sets makes them" in answer.json()["error"]["message"]
        assert "set" not in (await client.post("/classify", content=IMAGES[0])).json()

    run(shared_bundle, body)


def test_a_rejection_says_why_and_is_counted_by_reason(selective_bundle: Bundle) -> None:
    gate = Gate.load(selective_bundle.path, engine="onnxruntime-cpu", threads=1)
    tensor = {"name": "images", "datatype": "UINT8", "shape": [8, 16, 16, 3], "data": PIXELS[:8].tolist()}

    async def body(client: httpx.AsyncClient) -> None:
        before = await counted(client)
        answers = [(await client.post("/classify", content=image)).json() for image in IMAGES]
        for answer, decision in zip(answers, gate.decide(PIXELS), strict=True):
            assert (answer["decision"], answer["reason"]) == (decision.decision, decision.reason)
            assert answer["is_ood"] == (answer["reason"] == "ood")
            assert (answer["label"] is None) == (answer["decision"] == "reject")
            assert answer["selection"]["threshold"] == gate.spec.selection.threshold  # type: ignore[union-attr]
            if answer["reason"] == "uncertain":
                assert answer["selection"]["value"] < answer["selection"]["threshold"]
        reasons = [answer["reason"] for answer in answers]
        after = await counted(client)
        for reason in ("ood", "uncertain"):
            assert reasons.count(reason) > 0
            assert after[reason] - before[reason] == reasons.count(reason)
        outputs = (await client.post("/v2/models/small/infer", json={"inputs": [tensor]})).json()["outputs"]
        by_name = {output["name"]: output["data"] for output in outputs}
        assert by_name["reason"] == [reason or "" for reason in reasons[:8]]
        assert by_name["accept"] == [reason is None for reason in reasons[:8]]
        told = (await client.get("/model")).json()["gate"]
        assert told["max_error"] == {"rate": 0.05, "confidence": 0.95, "score": "confidence", "n": 600}
        assert told["promise"] == gate.spec.promise
        assert [one["coverage"] for one in told["sets"]] == [0.8, 0.95]

    run(selective_bundle, body)


async def counted(client: httpx.AsyncClient) -> dict[str, float]:
    text = (await client.get("/metrics")).text
    lines = [line.split() for line in text.splitlines() if line.startswith("oodgate_rejections_total")]
    return {name.split('"')[1]: float(value) for name, value in lines}


def test_only_what_the_gate_rejects_is_drift(selective_bundle: Bundle) -> None:
    """The promise that the rate is compared with is the gate's."""
    decisions = Gate.load(selective_bundle.path, engine="onnxruntime-cpu", threads=1).decide(PIXELS)

    async def body(client: httpx.AsyncClient) -> None:
        for image in IMAGES:
            await client.post("/classify", content=image)
        for _ in range(100):
            report = (await client.get("/drift")).json()
            if report["images"] == len(IMAGES):
                break
            await asyncio.sleep(0.05)
        assert report["rejected"] == sum(decision.is_ood for decision in decisions)
        assert report["rejected"] < sum(decision.decision == "reject" for decision in decisions)

    run(selective_bundle, body)
