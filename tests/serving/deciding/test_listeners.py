"""What hears of every decision: drift and the rejected images that are kept, over HTTP, and BentoML's monitoring log."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.applications import Starlette

from runtime import Gate
from runtime.bundle import MODEL, Bundle
from serving.deciding import listeners
from serving.exceptions import SettingsError
from serving.settings import Settings
from tests.serving.conftest import ROOT
from tests.serving.inside import application
from tests.small import calibration_images, encode

Body = Callable[[httpx.AsyncClient, Starlette], Awaitable[None]]

SCRIPT = """
import asyncio, sys
from runtime.bundle import Bundle
from tests.serving.inside import application

async def main():
    async with application(Bundle.load(sys.argv[1]), monitor=True, engine="onnxruntime-cpu") as (client, _):
        for name in sys.argv[2:]:
            data = open(name, "rb").read()
            answer = await client.post("/classify", content=data, headers={"x-request-id": name.rpartition("/")[2]})
            assert answer.status_code == 200

asyncio.run(main())
"""


def run(bundle: Bundle, body: Body, **settings: Any) -> None:
    async def inside() -> None:
        async with application(bundle, **settings) as (client, app):
            await body(client, app)

    asyncio.run(inside())


@pytest.fixture(scope="module")
def files(shared_bundle: Bundle) -> tuple[list[bytes], list[bool]]:
    """Image files, and whether each is rejected: some of either kind."""
    images = [encode(image) for image in calibration_images(60, seed=3)]  # of which alpha lets a tenth be rejected
    rejected = [decision.is_ood for decision in Gate.load(shared_bundle.path).decide(images)]
    assert 0 < sum(rejected) < len(rejected)
    return images, rejected


async def eventually(what: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(200):
        if await what():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it never came to be")


def test_drift_counts_every_decision(shared_bundle: Bundle, files: tuple[list[bytes], list[bool]]) -> None:
    images, rejected = files

    async def body(client: httpx.AsyncClient, _: Starlette) -> None:
        assert (await client.get("/drift")).json()["rejection_rate"] is None
        for image in images:
            await client.post("/classify", content=image)
        await client.post("/classify", content=b"no image")

        async def told() -> bool:
            return bool((await client.get("/drift")).json()["images"] == len(images))

        await eventually(told)
        report = (await client.get("/model")).json()["drift"]
        assert report["rejection_rate"] == pytest.approx(np.mean(rejected))
        assert report["alpha"] == shared_bundle.manifest.gate.alpha  # type: ignore[union-attr]
        low, high = report["rejection_interval"]
        assert low < np.mean(rejected) < high
        text = (await client.get("/metrics")).text
        assert f"oodgate_drift_images {len(images):.1f}" in text
        assert f"oodgate_drift_alarm {float(report['alarm'])}" in text

    run(shared_bundle, body)


def test_rejected_images_are_kept_listed_shown_and_removed(
    shared_bundle: Bundle, files: tuple[list[bytes], list[bool]], tmp_path: Path
) -> None:
    images, rejected = files
    expected = [image for image, is_ood in zip(images, rejected, strict=True) if is_ood]

    async def body(client: httpx.AsyncClient, _: Starlette) -> None:
        for number, image in enumerate(images):
            await client.post("/classify", content=image, headers={"x-request-id": f"r{number}"})

        async def kept() -> bool:
            return len((await client.get("/rejects?limit=500")).json()["rejects"]) == len(expected)

        await eventually(kept)
        first = (await client.get("/rejects", params={"limit": 2})).json()
        rest = (await client.get("/rejects", params={"limit": 500, "after": first["next"]})).json()
        records = first["rejects"] + rest["rejects"]
        assert rest["next"] is None
        assert {record["request_id"] for record in records} == {f"r{i}" for i, is_ood in enumerate(rejected) if is_ood}
        assert all(record["decision"]["is_ood"] for record in records)
        found = {}
        for record in records:
            answer = await client.get(f"/rejects/{record['id']}/image")
            assert answer.headers["content-type"] == "image/png"
            assert "sandbox" in answer.headers["content-security-policy"]
            found[record["request_id"]] = hashlib.sha256(answer.content).hexdigest()
        assert sorted(found.values()) == sorted(hashlib.sha256(image).hexdigest() for image in expected)
        gone = records[0]["id"]
        assert (await client.delete(f"/rejects/{gone}")).status_code == 204
        for method, path in (("DELETE", f"/rejects/{gone}"), ("GET", f"/rejects/{gone}/image")):
            answer = await client.request(method, path)
            assert answer.status_code == 404
            assert answer.json()["error"]["code"] == "not_found"

    run(shared_bundle, body, rejects=str(tmp_path / "rejects"))


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "limit=many", "limit=-1", "limit=%C2%B2"])
def test_pages_that_can_not_be(shared_bundle: Bundle, tmp_path: Path, query: str) -> None:
    async def body(client: httpx.AsyncClient, _: Starlette) -> None:
        answer = await client.get(f"/rejects?{query}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_request")

    run(shared_bundle, body, rejects=str(tmp_path))


@pytest.mark.parametrize("path", ["/rejects?after=..", "/rejects/../image", "/rejects/x/image", "/rejects/0/image"])
def test_ids_that_are_none(shared_bundle: Bundle, tmp_path: Path, path: str) -> None:
    async def body(client: httpx.AsyncClient, _: Starlette) -> None:
        assert (await client.get(path)).status_code == 404

    run(shared_bundle, body, rejects=str(tmp_path))


def test_nothing_is_kept_unless_asked_for(shared_bundle: Bundle) -> None:
    async def body(client: httpx.AsyncClient, _: Starlette) -> None:
        answer = await client.get("/rejects")
        assert answer.status_code == 404
        assert "OODGATE_REJECTS" in answer.json()["error"]["message"]

    run(shared_bundle, body)


def test_more_than_all_rejects() -> None:
    with pytest.raises(SettingsError, match="OODGATE_REJECTS_PERCENT must be from 1 to 100, found 101"):
        Settings.from_environment({"OODGATE_REJECTS_PERCENT": "101"})


def test_decisions_are_logged_with_their_requests(shared_bundle: Bundle, tmp_path: Path) -> None:
    """In a process of its own, whose working directory the log goes to."""
    files = []
    for i, image in enumerate(calibration_images(4)):
        files.append(tmp_path / f"{i}.png")
        files[-1].write_bytes(encode(image))
    command = [sys.executable, "-c", SCRIPT, str(shared_bundle.path), *map(str, files)]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "BENTOML_HOME": str(tmp_path / "home"), "HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (log,) = (tmp_path / "monitoring" / "oodgate" / "data").glob("*.log")
    records = [json.loads(line) for line in log.read_text().splitlines()]
    expected = [Gate.load(shared_bundle.path, threads=1).decide([file])[0] for file in files]
    assert [record["request"] for record in records] == [file.name for file in files]
    assert [record["decision"] for record in records] == [decision.decision for decision in expected]
    assert [record["p_value"] for record in records] == [decision.score.p_value for decision in expected]
    assert "score_energy" in records[0]


def test_outcomes_of_other_bundles_are_forgotten_after_a_day(
    shared_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners, "_shared", lambda: tmp_path)
    names = {
        "outcomes-old.sqlite": 90_000,
        "outcomes-old.sqlite-journal": 90_000,
        "outcomes-new.sqlite": 7200,
        "drift": 90_000,
    }
    for name, age in names.items():
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (time.time() - age,) * 2)

    async def body(_: httpx.AsyncClient, __: Starlette) -> None:
        left = {path.name for path in tmp_path.iterdir()}
        own = f"outcomes-{shared_bundle.manifest.files[MODEL].sha256[:16]}.sqlite"
        assert {"outcomes-new.sqlite", "drift", own} <= left
        assert not any(name.startswith("outcomes-old") for name in left)

    run(shared_bundle, body)
