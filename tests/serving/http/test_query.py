"""`?top=`: the most probable classes beside a decision."""

from __future__ import annotations

import asyncio

import httpx
import numpy as np
import pytest

from runtime import Gate
from runtime.bundle import Bundle
from tests.serving.decisions import assert_same
from tests.serving.inside import application
from tests.small import LABELS, calibration_images, encode

PIXELS = calibration_images(6, seed=3)
IMAGES = [encode(image) for image in PIXELS]


def test_the_most_probable_classes_come_first_and_the_rest_stays_as_it_was(shared_bundle: Bundle) -> None:
    gate = Gate.load(shared_bundle.path, threads=1)
    logits = gate.engine.run(PIXELS).logits.astype(np.float64)
    temperature = shared_bundle.manifest.confidence.temperature if shared_bundle.manifest.confidence else 1.0
    expected = np.exp(logits / temperature) / np.exp(logits / temperature).sum(axis=1, keepdims=True)

    async def body() -> None:
        async with application(shared_bundle) as (client, _):
            single = [(await client.post("/classify?top=2", content=image)).json() for image in IMAGES]
            files = [("images", image) for image in IMAGES]
            batch = (await client.post("/classify_batch?top=2", files=files)).json()["results"]
            for found, other, probabilities, decision in zip(single, batch, expected, gate.decide(PIXELS), strict=True):
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


@pytest.mark.parametrize("top", ["0", "101", "-1", "1.5", "x", "\u0663", "9" * 50])
def test_anything_else_is_refused(shared_bundle: Bundle, top: str) -> None:
    async def body() -> None:
        async with application(shared_bundle) as (client, _):
            for path in ("/classify", "/classify_batch"):
                answer: httpx.Response = await client.post(path, params={"top": top}, content=IMAGES[0])
                assert answer.status_code == 400
                assert answer.json()["error"]["code"] == "bad_request"

    asyncio.run(body())
