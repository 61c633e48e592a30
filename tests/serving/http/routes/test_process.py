"""Probes: a process is well while its engine works."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from runtime.bundle import Bundle
from runtime.exceptions import EngineError
from tests.serving.inside import application
from tests.small import calibration_images, encode

PROBES = ("/livez", "/readyz", "/healthz", "/v2/health/ready", "/v2/models/small/ready")


@pytest.mark.parametrize("recovers", [False, True], ids=["lost", "recovered"])
def test_an_engine_that_fails_on_every_batch_makes_the_process_unwell(shared_bundle: Bundle, recovers: bool) -> None:
    async def body() -> None:
        async with application(shared_bundle) as (client, app):
            gate = app.state.decider.gate
            works = gate.run

            def broken(*_: Any, **__: Any) -> Any:
                raise EngineError("CUDA error: device-side assert triggered")

            async def statuses() -> set[int]:
                await asyncio.sleep(0.05)  # what is noted after an answer has been noted
                return {(await client.get(probe)).status_code for probe in PROBES}

            images = [encode(image) for image in calibration_images(4)]
            assert await statuses() == {200}
            gate.run = broken
            for image in images[:2]:
                assert (await client.post("/classify", content=image)).status_code == 503
            assert await statuses() == {200}  # two may have been an image's fault
            gate.run = works
            assert (await client.post("/classify", content=images[3])).status_code == 200
            gate.run = broken
            for image in images[:3]:
                assert (await client.post("/classify", content=image)).status_code == 503
            gate.warm_up = gate.warm_up if recovers else broken
            gate.run = works if recovers else broken
            assert await statuses() == ({200} if recovers else {503})
            if not recovers:
                error = (await client.get("/readyz")).json()["error"]
                assert error == {
                    "code": "engine_failed",
                    "message": "the engine fails on batch after batch; the log says why",
                }

    asyncio.run(body())
