"""`?alpha=`: a request's own operating point, of those that the bundle has."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import numpy as np
import pytest

from runtime import Gate
from runtime.bundle import Bundle
from tests.serving.decisions import assert_same
from tests.serving.inside import application
from tests.small import calibration_images, encode

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


def test_points_do_not_mix_in_a_batch(shared_bundle: Bundle) -> None:
    gate = Gate.load(shared_bundle.path, threads=1)
    expected = {alpha: gate.decide(PIXELS, alpha=alpha) for alpha in ALPHAS}

    async def body(client: httpx.AsyncClient) -> None:
        asked = [(i, ALPHAS[i % 3]) for i in range(len(IMAGES))]
        answers = await asyncio.gather(*(client.post(f"/classify?alpha={a}", content=IMAGES[i]) for i, a in asked))
        for answer, (i, alpha) in zip(answers, asked, strict=True):
            assert_same(answer.json(), expected[alpha][i].to_dict())

    run(shared_bundle, body)


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
