"""How much of the rejected images one asks for at a time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from runtime.bundle import Bundle
from tests.serving.inside import application


@pytest.mark.parametrize("limit", ["0", "501", "x", "-1", "\u0663", "1" * 5000])
def test_a_page_of_rejects_has_a_limit(shared_bundle: Bundle, tmp_path: Path, limit: str) -> None:
    async def body() -> None:
        async with application(shared_bundle, rejects=str(tmp_path)) as (client, _):
            found = await client.get("/rejects", params={"limit": limit})
            assert (found.status_code, found.json()["error"]["code"]) == (400, "bad_request")
            assert (await client.get("/rejects", params={"limit": "500"})).status_code == 200

    asyncio.run(body())
